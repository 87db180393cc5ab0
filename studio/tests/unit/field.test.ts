import { expect, test } from "vitest";
import {
  computeMean, computePosterior, computeScore, followArrows, makePoints, measureSplit,
} from "../../src/lab/field.ts";
import { readGolden } from "./golden.ts";

const far = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i])));

test("particles end where Python's Euler takes them through the exact field", () => {
  const { points, deviation, starts, sigmas, ends } = readGolden<any>("field");
  const data = { points: Float64Array.from(points), deviation };
  expect(far(followArrows(data, Float64Array.from(starts), sigmas).at(-1)!, ends)).toBeLessThan(1e-11);
});

test("two points: the field splits at half of their distance", () => {
  const data = { points: Float64Array.from([-0.8, 0, 0.8, 0]), deviation: 0 };
  expect(measureSplit(data, 0, 0, 0.81)).toBeLessThan(1);
  expect(measureSplit(data, 0, 0, 0.79)).toBeGreaterThan(1);
  expect(computePosterior(data, 0.3, 0, 1).mean[0]).toBeCloseTo(0.8 * Math.tanh(0.8 * 0.3), 12);
});

test("under much noise the answer is the mean, under little the nearest point", () => {
  const data = { points: makePoints("moons", 40), deviation: 0 };
  const mean = computeMean(data.points);
  expect(far(computePosterior(data, 5, -3, 1e4).mean, mean)).toBeLessThan(1e-5);
  const near = computePosterior(data, data.points[0], data.points[1] + 0.001, 0.001).mean;
  expect(far(near, data.points.slice(0, 2))).toBeLessThan(1e-9);
});

test("the score is the gradient of the log density", () => {
  const data = { points: makePoints("spiral", 20), deviation: 0.1 };
  const [sigma, h] = [0.4, 1e-5];
  const logDensity = (x: number, y: number) => {
    let sum = 0;
    for (let i = 0; i < data.points.length; i += 2)
      sum += Math.exp(
        -((x - data.points[i]) ** 2 + (y - data.points[i + 1]) ** 2) / (2 * (sigma ** 2 + 0.1 ** 2)));
    return Math.log(sum);
  };
  const score = computeScore(data, 0.3, -0.6, sigma);
  const slope = (logDensity(0.3 + h, -0.6) - logDensity(0.3 - h, -0.6)) / (2 * h);
  expect(score[0]).toBeCloseTo(slope, 6); // central differences: h² and rounding / h
});
