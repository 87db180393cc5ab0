/** The mask: strokes to the pixel, undo within its budget, its file, and what a reload keeps. */

import { inflateSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { Mask, readMask, type Dot } from "../../../src/app/edit/mask.ts";
import { writePng } from "../../../src/app/edit/png.ts";

const list = (mask: Mask) => [...mask.pixels];

/** Pixels whose centre is near to one of very many dots on the way. */
function paintSlowly(width: number, height: number, from: Dot, to: Dot): number[] {
  const pixels = new Array(width * height).fill(0);
  for (let k = 0; k <= 4_000; k++) {
    const way = k / 4_000;
    const [x, y] = [from.x + (to.x - from.x) * way, from.y + (to.y - from.y) * way];
    for (let i = 0; i < pixels.length; i++) {
      const [px, py] = [(i % width) + 0.5, Math.floor(i / width) + 0.5];
      if (Math.hypot(px - x, py - y) <= from.radius) pixels[i] = 1;
    }
  }
  return pixels;
}

describe("strokes", () => {
  test.each([
    [{ x: 3.2, y: 4.1, radius: 2.6 }, { x: 17.7, y: 9.3, radius: 2.6 }],
    [{ x: -4, y: 8, radius: 5 }, { x: 30, y: 12, radius: 5 }],
    [{ x: 10, y: 2, radius: 3 }, { x: 10, y: 2, radius: 3 }],
  ])("from %o to %o has each pixel that a slow walk has", (from, to) => {
    const mask = new Mask(24, 16);
    mask.stroke(from, to, true);
    expect(list(mask)).toEqual(paintSlowly(24, 16, from, to));
    expect(mask.painted).toBe(list(mask).reduce((a, b) => a + b));
  });

  test("the thinnest brush paints one pixel, wherever it stands in it, and no gaps", () => {
    const mask = new Mask(9, 9);
    mask.stroke({ x: 4.5, y: 4.5, radius: 0.5 }, { x: 4.5, y: 4.5, radius: 0.5 }, true);
    expect([mask.painted, mask.pixels[4 * 9 + 4]]).toEqual([1, 1]);
    for (const at of [0.01, 0.3, 0.99]) {
      const other = new Mask(9, 9);
      other.stroke({ x: 4 + at, y: 4 + at, radius: 0.5 }, { x: 4 + at, y: 4 + at, radius: 0.5 }, true);
      expect(other.painted).toBeGreaterThan(0);
    }
    const line = new Mask(40, 40);
    line.stroke({ x: 1, y: 2, radius: 0.5 }, { x: 38, y: 31, radius: 0.5 }, true);
    for (let x = 1; x < 38; x++) expect(list(line).filter((on, i) => on && i % 40 === x)).not.toEqual([]);
  });

  test("pressure makes it wider", () => {
    const mask = new Mask(40, 20);
    mask.stroke({ x: 5, y: 10, radius: 1 }, { x: 35, y: 10, radius: 6 }, true);
    const high = (x: number) => list(mask).filter((on, i) => on && i % 40 === x).length;
    expect([high(5), high(20), high(34)]).toEqual([...new Set([high(5), high(20), high(34)])].sort((a, b) => a - b));
  });

  test("outside of the picture nothing is touched", () => {
    const mask = new Mask(8, 8);
    expect(mask.stroke({ x: -9, y: -9, radius: 2 }, { x: -5, y: -5, radius: 2 }, true)).toBeNull();
    expect(mask.commit("stroke")).toBe(false);
  });
});

describe("undo and redo", () => {
  test("every kind of change, forwards and backwards", () => {
    const mask = new Mask(200, 130);
    const states = [list(mask)];
    const act: (() => void)[] = [
      () => mask.stroke({ x: 20, y: 20, radius: 9 }, { x: 180, y: 110, radius: 9 }, true),
      () => mask.rectangle({ left: 50, top: -4, right: 90, bottom: 500 }, true),
      () => mask.stroke({ x: 60, y: 60, radius: 15 }, { x: 70, y: 60, radius: 15 }, false),
      () => mask.fill((i) => !mask.pixels[i]),
      () => mask.fill(() => false),
    ];
    for (const one of act) {
      one();
      expect(mask.commit("change")).toBe(true);
      states.push(list(mask));
    }
    for (let i = states.length - 2; i >= 0; i--) {
      expect(mask.undo()).toBe("change");
      expect(list(mask)).toEqual(states[i]);
    }
    expect(mask.undo()).toBeNull();
    for (const state of states.slice(1)) {
      expect(mask.redo()).toBe("change");
      expect(list(mask)).toEqual(state);
      expect(mask.painted).toBe(state.reduce((a, b) => a + b));
    }
    mask.undo();
    mask.rectangle({ left: 0, top: 0, right: 3, bottom: 3 }, false);
    expect(mask.commit("new")).toBe(true);
    expect(mask.redo()).toBeNull();
  });

  test("a stroke that became a pinch is taken back", () => {
    const mask = new Mask(50, 50);
    mask.rectangle({ left: 5, top: 5, right: 20, bottom: 20 }, true);
    mask.commit("rectangle");
    const state = list(mask);
    mask.stroke({ x: 10, y: 10, radius: 12 }, { x: 40, y: 40, radius: 12 }, true);
    mask.revert();
    expect(list(mask)).toEqual(state);
    expect(mask.commit("stroke")).toBe(false);
  });

  test("hundreds of strokes on a large picture stay within the budget", () => {
    const mask = new Mask(2048, 2048, 1 << 19);
    for (let i = 0; i < 300; i++) {
      mask.stroke({ x: (i * 37) % 2048, y: 0, radius: 2 }, { x: (i * 37) % 2048, y: 300, radius: 2 }, i % 2 === 0);
      mask.commit("stroke");
    }
    expect(mask.bytes).toBeLessThanOrEqual(1 << 19);
    expect(mask.done.length).toBeGreaterThan(100);
    const [one] = mask.done.slice(-1);
    expect(one.tiles.length * 512).toBeLessThan((2048 * 2048) / 8 / 10); // not the whole of it
  });
});

test("what is kept comes back, with its undo", () => {
  const mask = new Mask(77, 31);
  mask.stroke({ x: 9, y: 9, radius: 6 }, { x: 70, y: 25, radius: 3 }, true);
  mask.commit("stroke");
  const first = list(mask);
  mask.rectangle({ left: 0, top: 0, right: 30, bottom: 30 }, false);
  mask.commit("rectangle");
  const again = Mask.restore(structuredClone(mask.keep()));
  expect(list(again)).toEqual(list(mask));
  expect(again.painted).toBe(mask.painted);
  expect(again.undo()).toBe("rectangle");
  expect(list(again)).toEqual(first);
  again.undo();
  expect(again.painted).toBe(0);
  expect(Mask.restore({ ...mask.keep(0) }).undo()).toBeNull();
  expect(() => Mask.restore({ ...mask.keep(), bits: new Uint8Array(3) })).toThrow("damaged");
});

test("the file has the pixels of the mask, white where painted", async () => {
  const mask = new Mask(21, 5);
  mask.stroke({ x: 3, y: 2, radius: 2 }, { x: 18, y: 3, radius: 1 }, true);
  const file = Buffer.from(await (await writePng(mask)).arrayBuffer());
  expect(file.subarray(1, 4).toString()).toBe("PNG");
  expect([file.readUInt32BE(16), file.readUInt32BE(20), file[24], file[25]]).toEqual([21, 5, 1, 0]);
  const at = file.indexOf("IDAT");
  const rows = inflateSync(file.subarray(at + 4, at + 4 + file.readUInt32BE(at - 4)));
  const read = list(mask).map((_, i) => (rows[Math.floor(i / 21) * 4 + 1 + ((i % 21) >> 3)] >> (7 - ((i % 21) & 7))) & 1);
  expect(read).toEqual(list(mask));
});

test("a file is read as the server reads it", () => {
  const grey = (...levels: number[]) => Uint8ClampedArray.from(levels.flatMap((v) => [v, v, v, 255]));
  expect([0, 1, 2, 3].map(readMask(grey(0, 127, 128, 255)))).toEqual([false, false, true, true]);
  const clear = Uint8ClampedArray.from([255, 255, 255, 0, 0, 0, 0, 255, 9, 9, 9, 127, 9, 9, 9, 128]);
  expect([0, 1, 2, 3].map(readMask(clear))).toEqual([false, true, false, true]);
});
