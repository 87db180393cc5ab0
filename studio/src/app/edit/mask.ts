/** A mask of a picture: which of its pixels are painted. Its pixels are those of the picture, however
 * large the picture is shown. Every change can be undone: a change keeps the tiles that it touched. */

export interface Box {
  left: number;
  top: number;
  right: number; // the first column that is not in it
  bottom: number;
}

export interface Dot {
  x: number; // in pixels of the picture; the first pixel is from 0 to 1
  y: number;
  radius: number;
}

/** The pixels of one tile that a change turned over: a bit each, row by row. */
interface Turned {
  tile: number;
  bits: Uint8Array;
}

/** What one stroke, rectangle or file changed. */
export interface Change {
  name: string;
  tiles: Turned[];
}

/** What is kept of a mask over a reload. */
export interface Kept {
  width: number;
  height: number;
  bits: Uint8Array;
  undone: Change[];
  done: Change[];
}

const TILE = 64; // pixels a side
const TILE_BYTES = (TILE * TILE) / 8;
const THINNEST = Math.SQRT1_2; // a smaller radius could lie between the centres of all pixels
export const BUDGET = 16 << 20; // bytes of changes that can be undone

export class Mask {
  readonly pixels: Uint8Array; // 1 where painted
  painted = 0; // how many pixels are
  done: Change[] = [];
  undone: Change[] = [];
  private readonly before: Uint8Array; // as it was before the change that goes on
  private touched: Box | null = null;

  constructor(readonly width: number, readonly height: number, private readonly budget = BUDGET) {
    this.pixels = new Uint8Array(width * height);
    this.before = new Uint8Array(width * height);
  }

  /** Paints (or erases) from one dot to the next: each pixel whose centre is as near to the line as the
   * radius there. What it touched, or null where that is outside of the picture. */
  stroke(from: Dot, to: Dot, paint: boolean): Box | null {
    const [r0, r1] = [Math.max(from.radius, THINNEST), Math.max(to.radius, THINNEST)];
    const most = Math.max(r0, r1);
    const box = this.clip({
      left: Math.floor(Math.min(from.x, to.x) - most),
      top: Math.floor(Math.min(from.y, to.y) - most),
      right: Math.ceil(Math.max(from.x, to.x) + most),
      bottom: Math.ceil(Math.max(from.y, to.y) + most),
    });
    if (!box) return null;
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    const length = dx * dx + dy * dy;
    for (let y = box.top; y < box.bottom; y++) {
      for (let x = box.left; x < box.right; x++) {
        const [px, py] = [x + 0.5 - from.x, y + 0.5 - from.y];
        const way = length ? Math.min(Math.max((px * dx + py * dy) / length, 0), 1) : 0;
        const radius = r0 + (r1 - r0) * way;
        const [ex, ey] = [px - way * dx, py - way * dy];
        if (ex * ex + ey * ey <= radius * radius) this.put(y * this.width + x, paint);
      }
    }
    return this.touch(box);
  }

  /** Paints (or erases) a rectangle. */
  rectangle(asked: Box, paint: boolean): Box | null {
    const box = this.clip(asked);
    if (!box) return null;
    for (let y = box.top; y < box.bottom; y++) {
      for (let i = y * this.width + box.left; i < y * this.width + box.right; i++) this.put(i, paint);
    }
    return this.touch(box);
  }

  /** Paints or erases every pixel as `of` says. */
  fill(of: (index: number) => boolean): Box {
    for (let i = 0; i < this.pixels.length; i++) this.put(i, of(i));
    return this.touch(this.whole);
  }

  get whole(): Box {
    return { left: 0, top: 0, right: this.width, bottom: this.height };
  }

  /** Ends a change, so that it can be undone at once. False where nothing changed. */
  commit(name: string): boolean {
    const tiles: Turned[] = [];
    if (this.touched) {
      for (const tile of this.tilesOf(this.touched)) {
        const bits = this.compare(tile);
        if (bits) tiles.push({ tile, bits });
      }
    }
    this.touched = null;
    if (!tiles.length) return false;
    this.done.push({ name, tiles });
    this.undone = [];
    while (this.done.length > 1 && this.bytes > this.budget) this.done.shift();
    return true;
  }

  /** Takes back what has changed since the last commit: a stroke that became a pinch. */
  revert(): Box | null {
    const box = this.touched;
    if (box) {
      for (let y = box.top; y < box.bottom; y++) {
        for (let i = y * this.width + box.left; i < y * this.width + box.right; i++) this.put(i, this.before[i] === 1);
      }
    }
    this.touched = null;
    return box;
  }

  /** Undoes the last change: its name, or null. */
  undo(): string | null {
    const change = this.done.pop();
    if (!change) return null;
    this.turn(change);
    this.undone.push(change);
    return change.name;
  }

  redo(): string | null {
    const change = this.undone.pop();
    if (!change) return null;
    this.turn(change);
    this.done.push(change);
    return change.name;
  }

  /** Of all changes that can be undone or done again. */
  get bytes(): number {
    return [...this.done, ...this.undone].reduce((sum, change) => sum + change.tiles.length * TILE_BYTES, 0);
  }

  /** The painted part, or null. */
  get bounds(): Box | null {
    if (!this.painted) return null;
    const box = { left: this.width, top: this.height, right: 0, bottom: 0 };
    for (let y = 0, i = 0; y < this.height; y++) {
      for (let x = 0; x < this.width; x++, i++) {
        if (!this.pixels[i]) continue;
        box.left = Math.min(box.left, x);
        box.right = Math.max(box.right, x + 1);
        box.top = Math.min(box.top, y);
        box.bottom = y + 1;
      }
    }
    return box;
  }

  /** What to keep of it: the pixels, and as many of the last changes as `most` bytes hold. */
  keep(most = 4 << 20): Kept {
    let room = most;
    const fits = (change: Change) => (room -= change.tiles.length * TILE_BYTES) >= 0;
    const newest = (changes: Change[]) => changes.slice(changes.length - countWhile([...changes].reverse(), fits));
    const done = newest(this.done);
    return { width: this.width, height: this.height, bits: packRows(this), done, undone: newest(this.undone) };
  }

  /** A mask as it was kept. Throws where that is damaged. */
  static restore(kept: Kept): Mask {
    const mask = new Mask(kept.width, kept.height);
    const row = Math.ceil(kept.width / 8);
    if (kept.bits.length !== row * kept.height) throw new Error("the kept mask is damaged");
    mask.fill((i) => {
      const x = i % kept.width;
      return ((kept.bits[Math.floor(i / kept.width) * row + (x >> 3)] >> (7 - (x & 7))) & 1) === 1;
    });
    mask.touched = null;
    mask.before.set(mask.pixels);
    mask.done = kept.done;
    mask.undone = kept.undone;
    return mask;
  }

  private put(index: number, paint: boolean): void {
    this.painted += Number(paint) - this.pixels[index];
    this.pixels[index] = Number(paint);
  }

  private clip(box: Box): Box | null {
    const [left, top] = [Math.max(box.left, 0), Math.max(box.top, 0)];
    const [right, bottom] = [Math.min(box.right, this.width), Math.min(box.bottom, this.height)];
    return left < right && top < bottom ? { left, top, right, bottom } : null;
  }

  private touch(box: Box): Box {
    this.touched = this.touched ? unite(this.touched, box) : box;
    return box;
  }

  private get columns(): number {
    return Math.ceil(this.width / TILE);
  }

  private *tilesOf(box: Box): Generator<number> {
    for (let row = Math.floor(box.top / TILE); row * TILE < box.bottom; row++) {
      for (let column = Math.floor(box.left / TILE); column * TILE < box.right; column++) yield row * this.columns + column;
    }
  }

  /** (pixel of the mask, bit of the tile) of every pixel that a tile has. */
  private forEach(tile: number, visit: (pixel: number, bit: number) => void): void {
    const [left, top] = [(tile % this.columns) * TILE, Math.floor(tile / this.columns) * TILE];
    const [right, bottom] = [Math.min(left + TILE, this.width), Math.min(top + TILE, this.height)];
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) visit(y * this.width + x, (y - top) * TILE + x - left);
    }
  }

  /** The pixels of a tile that are not as before, which they become then; null for none. */
  private compare(tile: number): Uint8Array | null {
    let bits: Uint8Array | null = null;
    this.forEach(tile, (pixel, bit) => {
      if (this.pixels[pixel] === this.before[pixel]) return;
      bits ??= new Uint8Array(TILE_BYTES);
      bits[bit >> 3] |= 1 << (bit & 7);
      this.before[pixel] = this.pixels[pixel];
    });
    return bits;
  }

  private turn(change: Change): void {
    for (const { tile, bits } of change.tiles) {
      this.forEach(tile, (pixel, bit) => {
        if (!((bits[bit >> 3] >> (bit & 7)) & 1)) return;
        this.put(pixel, !this.pixels[pixel]);
        this.before[pixel] = this.pixels[pixel];
      });
    }
  }
}

export function unite(a: Box, b: Box): Box {
  return {
    left: Math.min(a.left, b.left), top: Math.min(a.top, b.top),
    right: Math.max(a.right, b.right), bottom: Math.max(a.bottom, b.bottom),
  };
}

/** The pixels as bits: each row begins with a new byte, the first pixel is a byte's highest bit. */
export function packRows({ width, height, pixels }: Mask): Uint8Array {
  const row = Math.ceil(width / 8);
  const bits = new Uint8Array(row * height);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) bits[y * row + (x >> 3)] |= pixels[i] << (7 - (x & 7));
  }
  return bits;
}

function countWhile<T>(values: T[], holds: (value: T) => boolean): number {
  const end = values.findIndex((value) => !holds(value));
  return end < 0 ? values.length : end;
}

const HALF = 128; // the first level that counts as white, or as opaque

/** Which pixels a picture of a mask paints, as the server reads one: where a part is transparent its
 * opaque pixels, otherwise its bright ones. rgba: four bytes a pixel. */
export function readMask(rgba: Uint8ClampedArray): (index: number) => boolean {
  let lowest = 255;
  for (let i = 3; i < rgba.length; i += 4) lowest = Math.min(lowest, rgba[i]);
  if (lowest < HALF) return (i) => rgba[4 * i + 3] >= HALF;
  const light = (i: number) => (rgba[i] * 19595 + rgba[i + 1] * 38470 + rgba[i + 2] * 7471 + 0x8000) >> 16;
  return (i) => light(4 * i) >= HALF;
}
