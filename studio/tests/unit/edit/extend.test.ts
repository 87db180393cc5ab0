/** The frame snaps to what the model can draw: the server has nothing to add. */

import { expect, test } from "vitest";
import { extend, NO_EXTENSION, SIDES, sizeOf, step } from "../../../src/app/edit/extend.ts";
import { fit, locate, pan, zoom } from "../../../src/app/edit/view.ts";

const PICTURES = [{ width: 128, height: 128 }, { width: 100, height: 131 }, { width: 8, height: 2000 }];

test.each(PICTURES)("every side of %o ends at a multiple, as near as it can", (picture) => {
  for (const multiple of [8, 32, 64]) {
    for (const side of SIDES) {
      const own = side === "left" || side === "right" ? picture.width : picture.height;
      for (let asked = -20; asked < 300; asked += 7) {
        const found = extend(NO_EXTENSION, side, asked, picture, multiple)[side];
        expect(found === 0 || (own + found) % multiple === 0).toBe(true);
        expect(Math.abs(found - Math.max(asked, 0))).toBeLessThanOrEqual(multiple / 2 + (found === (multiple - (own % multiple)) ? multiple : 0));
      }
    }
  }
});

test("both sides together are a multiple", () => {
  const picture = { width: 100, height: 100 };
  let frame = extend(NO_EXTENSION, "left", 33, picture, 64);
  frame = extend(frame, "right", 50, picture, 64);
  expect(sizeOf(picture, frame).width % 64).toBe(0);
  expect(extend(frame, "right", 1e6, picture, 64).right).toBeLessThanOrEqual(4096);
});

test("the keyboard goes out and comes back", () => {
  for (const picture of PICTURES) {
    for (const side of SIDES) {
      let frame = NO_EXTENSION;
      for (let i = 0; i < 5; i++) {
        const next = step(frame, side, 1, picture, 32);
        expect(next[side]).toBeGreaterThan(frame[side]);
        frame = next;
      }
      for (let i = 0; i < 6; i++) frame = step(frame, side, -1, picture, 32);
      expect(frame).toEqual(NO_EXTENSION);
    }
  }
});

test("zooming leaves the place under the pointer where it is", () => {
  const [picture, room] = [{ width: 500, height: 300 }, { width: 800, height: 600 }];
  let view = fit(picture, room);
  const at = { x: 300, y: 250 };
  const before = locate(view, at);
  for (const factor of [1.5, 2, 0.8]) view = zoom(view, factor, at, picture, room);
  expect(locate(view, at).x).toBeCloseTo(before.x, 9);
  expect(locate(view, at).y).toBeCloseTo(before.y, 9);
  view = pan(view, 1e6, -1e6, picture, room);
  expect(view.x).toBeLessThan(room.width);
  expect(view.y + picture.height * view.scale).toBeGreaterThan(0);
  expect(zoom(view, 1e9, at, picture, room).scale).toBe(64);
});
