/** Runs of an explorable that draws: while one goes on, the controls are closed. */

import type { Part } from "../engine/types.ts";
import { Work } from "./drawing.ts";
import type { Context } from "./types.ts";

export class Runs {
  busy = $state(false);

  /** ended: called after each run, be it done, cancelled or failed. */
  constructor(private readonly context: Context, private readonly ended = () => {}) {}

  /** parts: what this run needs beside the parts of the explorable. */
  start(make: (work: Work) => Promise<void>, parts?: readonly Part[]): Promise<void> {
    return this.context.run(async (signal) => {
      this.busy = true;
      try {
        await make(new Work(this.context, signal));
      } finally {
        this.busy = false;
        this.ended();
      }
    }, parts);
  }
}
