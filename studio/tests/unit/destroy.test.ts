import { expect, test } from "vitest";
import { addNoise, readPixels, SCHEDULES, writePixels } from "../../src/lab/destroy.ts";
import { countBelow, listLevels, moveLevel } from "../../src/lab/levels.ts";
import { drawNoise } from "../../src/lab/random.ts";
import { NoiseSchedule } from "../../src/lab/schedule.ts";
import { readGolden } from "./golden.ts";

const { x0, rows } = readGolden<any>("destroy");

test("every schedule has Python's ᾱ, σ and SNR, and adds noise as Python does", () => {
  const noise = drawNoise(7, 48);
  for (const [name, t, alphaBar, sigma, snr, mixture] of rows) {
    const schedule = SCHEDULES[name].make();
    for (const [got, want] of [[schedule.alphaBar[t], alphaBar], [schedule.sigmas[t], sigma], [schedule.snr(t), snr]])
      expect(Math.abs(got / want - 1), `${name} at ${t}`).toBeLessThan(1e-11); // a product of up to 1,000 factors
    addNoise(Float32Array.from(x0), noise, schedule.alphaBar[t]).forEach((value, i) =>
      expect(Math.abs(value - mixture[i]), `${name} at ${t}`).toBeLessThan(1e-6)); // float32, values below 4
  }
});

test("a picture survives the way into values and back", () => {
  const pixels = Uint8ClampedArray.from({ length: 256 * 4 }, (_, i) => (i % 4 === 3 ? 255 : (i * 7) % 256));
  expect(writePixels(readPixels(pixels))).toEqual(pixels);
});

test("even in log σ puts the most levels below 1, as the chapter says", () => {
  const schedule = NoiseSchedule.scaledLinear();
  const counts = ["even", "exponential", "karras"].map((name) => countBelow(listLevels(name, schedule, 8), 1));
  expect(counts).toEqual([1, 4, 3]);
});

test("a level moves, but never past its neighbours or the ends", () => {
  const levels = [60, 10, 1];
  expect(moveLevel(levels, 1, 5, 0.03, 66)).toEqual([60, 5, 1]);
  expect(moveLevel(levels, 1, 500, 0.03, 66)[1]).toBeLessThan(60);
  expect(moveLevel(levels, 1, 0.5, 0.03, 66)[1]).toBeGreaterThan(1);
  expect(moveLevel(levels, 0, 500, 0.03, 66)[0]).toBe(66);
  expect(moveLevel(levels, 2, 0.001, 0.03, 66)[2]).toBe(0.03);
});
