/** Points of the plane: one of the given shapes, or the reader's own. */

import { makePoints, type Shape } from "../lab/field.ts";

export class Points {
  shape = $state("");
  flat = $state.raw<Float64Array>(new Float64Array()); // x and y of each point

  /** count: points of a given shape. most: points that the reader can draw. changed: called when they
   * are other points. */
  constructor(
    shape: Shape, private readonly count: number, private readonly most: number,
    private readonly changed: () => void,
  ) {
    this.shape = shape;
    this.flat = makePoints(shape, count);
  }

  get isEmpty(): boolean {
    return this.flat.length === 0;
  }

  choose = (name: string): void => {
    this.flat = name === "own" ? new Float64Array() : makePoints(name as Shape, this.count);
    this.changed();
  };

  add = (x: number, y: number): void => {
    if (this.shape !== "own") {
      this.shape = "own";
      this.flat = new Float64Array();
    }
    if (this.flat.length < 2 * this.most) this.flat = Float64Array.from([...this.flat, x, y]);
    this.changed();
  };

  removeLast = (): void => {
    this.flat = this.flat.slice(0, -2);
    this.changed();
  };
}
