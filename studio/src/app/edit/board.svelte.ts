/** The mask that is being painted: what components show of it, and how it outlives a reload. */

import { keepMask, recallMask } from "./keeping.ts";
import { Mask, readMask, type Box, type Dot } from "./mask.ts";
import { writePng } from "./png.ts";
import type { Size } from "./view.ts";

export class Board {
  mask: Mask;
  version = $state(0); // one more at each change that has ended
  canUndo = $state<string | null>(null); // what would be undone
  canRedo = $state<string | null>(null);
  note = $state(""); // that the mask cannot be kept
  private readonly painters = new Set<(box: Box) => void>();
  private saving: Promise<void> | null = null;
  private isStale = false;

  private constructor(readonly key: string, size: Size) {
    this.mask = new Mask(size.width, size.height);
  }

  /** The mask of a picture, as it was left. key: the picture's hash. */
  static async open(key: string, size: Size): Promise<Board> {
    const board = new Board(key, size);
    try {
      const kept = await recallMask(key);
      if (kept && kept.width === size.width && kept.height === size.height) board.mask = Mask.restore(kept);
    } catch (error) {
      board.note = `The last mask of this picture cannot be read (${tell(error)}), so it begins empty.`;
    }
    board.show();
    return board;
  }

  /** Calls `paint` with what has changed, at once and while a stroke goes on. */
  watch(paint: (box: Box) => void): () => void {
    this.painters.add(paint);
    paint(this.mask.whole);
    return () => this.painters.delete(paint);
  }

  get isEmpty(): boolean {
    void this.version;
    return this.mask.painted === 0;
  }

  /** What is painted, in words. */
  get summary(): string {
    void this.version;
    const box = this.mask.bounds;
    if (!box) return "Nothing is painted yet.";
    const share = (100 * this.mask.painted) / this.mask.pixels.length;
    const percent = share < 1 ? "less than 1" : Math.round(share);
    return `${this.mask.painted.toLocaleString("en")} pixels are painted, ${percent} % of the picture: columns ${box.left} to ${box.right - 1}, rows ${box.top} to ${box.bottom - 1}.`;
  }

  stroke(from: Dot, to: Dot, paint: boolean): void {
    this.tell(this.mask.stroke(from, to, paint));
  }

  rectangle(box: Box, paint: boolean): void {
    this.tell(this.mask.rectangle(box, paint));
    this.commit(paint ? "rectangle" : "erased rectangle");
  }

  invert(): void {
    const { pixels } = this.mask;
    this.tell(this.mask.fill((i) => !pixels[i]));
    this.commit("inversion");
  }

  clear(): void {
    this.tell(this.mask.fill(() => false));
    this.commit("clearing");
  }

  commit(name: string): void {
    if (this.mask.commit(name)) this.show();
  }

  /** Takes back a stroke that has not ended. */
  revert(): void {
    this.tell(this.mask.revert());
  }

  undo(): void {
    if (this.mask.undo() !== null) this.show();
  }

  redo(): void {
    if (this.mask.redo() !== null) this.show();
  }

  /** Takes the mask of a file. Throws an Error with a remedy for one of another size; with `stretch` it
   * is made to fit. */
  async load(file: Blob, stretch = false): Promise<void> {
    const { width, height } = this.mask;
    const picture = await createImageBitmap(file).catch(() => {
      throw new Error("This file is no picture that the browser can read. Give a PNG, JPEG or WebP file.");
    });
    if (!stretch && (picture.width !== width || picture.height !== height)) {
      throw new WrongSize(`The file has ${picture.width} × ${picture.height} pixels, the picture ${width} × ${height}.`);
    }
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true })!;
    context.imageSmoothingEnabled = false;
    context.drawImage(picture, 0, 0, width, height);
    picture.close();
    this.tell(this.mask.fill(readMask(context.getImageData(0, 0, width, height).data)));
    this.commit("file");
  }

  /** The mask as a PNG file. */
  file(): Promise<Blob> {
    return writePng(this.mask);
  }

  private tell(box: Box | null): void {
    if (box) for (const paint of this.painters) paint(box);
  }

  private show(): void {
    this.canUndo = this.mask.done.at(-1)?.name ?? null;
    this.canRedo = this.mask.undone.at(-1)?.name ?? null;
    this.version += 1;
    this.tell(this.mask.whole);
    if (this.version > 1) this.save();
  }

  /** Keeps it, one write at a time; the last one has the newest mask. */
  private save(): void {
    this.isStale = true;
    this.saving ??= (async () => {
      try {
        while (this.isStale) {
          this.isStale = false;
          await keepMask(this.key, this.mask.keep());
        }
      } catch (error) {
        this.note = `The browser cannot keep this mask over a reload (${tell(error)}).`;
      } finally {
        this.saving = null;
      }
    })();
  }
}

/** A mask's file has another size than the picture. */
export class WrongSize extends Error {}

export function tell(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
