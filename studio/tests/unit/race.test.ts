import { expect, test } from "vitest";
import { openNoise } from "../../src/engine/pythonHost.ts";
import { denoise, MIXTURE, normalCdf } from "../../src/lab/mixture.ts";
import {
  chooseNoise, fitOrder, makeGrid, makeStarts, measureError, solveOnPath,
  solveRace, STEPS,
} from "../../src/lab/race.ts";
import { readGolden } from "./golden.ts";

const race = readGolden<any>("race");
const far = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i])));

test("the denoiser of the mixture is Python's", () => {
  // 1e-12: both are float64, and softmax sums in another order
  for (const [sigma, x, x0] of race.denoise) expect(denoise(MIXTURE, x, sigma)).toBeCloseTo(x0, 12);
});

test("starts, levels and the exact answer are Python's", () => {
  expect(far(makeGrid(8), race.grid)).toBeLessThan(1e-12);
  expect(far(makeStarts(), race.starts)).toBeLessThan(1e-11); // of numbers up to 33
  expect(far(solveRace(makeStarts()), race.exact)).toBeLessThan(1e-11);
});

test("the normal distribution function keeps its symmetry and its known values", () => {
  expect(normalCdf(0)).toBe(0.5);
  expect(normalCdf(1.959963984540054)).toBeCloseTo(0.975, 14);
  for (const z of [0.3, 2, 5, 8]) expect(normalCdf(z) + normalCdf(-z)).toBeCloseTo(1, 15);
});

test("the race measures Euler's error as Python does", () => {
  const starts = makeStarts(), truth = solveRace(starts);
  for (const [k, steps] of STEPS.entries()) {
    const grid = makeGrid(steps);
    let x = starts;
    for (let i = 0; i < steps; i++) {
      const x0 = x.map((value) => denoise(MIXTURE, value, grid[i]));
      x = x.map((value, j) => value + ((value - x0[j]) / grid[i]) * (grid[i + 1] - grid[i]));
    }
    // relative 1e-9: rounding of up to 128 steps, and the error itself is a difference
    expect(measureError(x, truth) / race.errors.euler[k]).toBeCloseTo(1, 9);
  }
});

test("the order is the slope of the error", () => {
  const points = (name: string) =>
    STEPS.map((count, k) => ({ count, error: race.errors[name][k] })).slice(-3);
  expect(fitOrder(points("euler"))).toBeCloseTo(1, 1);
  expect(fitOrder(points("heun"))).toBeGreaterThan(1.8);
  expect(fitOrder([{ count: 1, error: 1 }, { count: 10, error: 1e-3 }])).toBeCloseTo(3, 12);
});

test("Euler a along the path ends where Python's does, and more steps come nearer", async () => {
  const starts = makeStarts();
  expect(far(await solveOnPath(starts, 5, 64), race.walk)).toBeLessThan(1e-9); // equal bits of noise
  const truth = await solveOnPath(starts, 5, 512);
  const rough = measureError(await solveOnPath(starts, 5, 8), truth);
  const fine = measureError(await solveOnPath(starts, 5, 64), truth);
  expect(fine).toBeLessThan(rough / 4);
}, 20_000); // milliseconds, for a machine that is busy with other things

test("fresh noise is other noise for another number of steps", () => {
  const [a, b, again] = [8, 16, 8].map((steps) => openNoise(chooseNoise("fresh", 1, steps))!(1, 0.5));
  expect(a).toEqual(again);
  expect(far(a, b)).toBeGreaterThan(1);
});
