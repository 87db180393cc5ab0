import { expect, test } from "vitest";
import { computePosterior, makePoints } from "../../src/lab/field.ts";
import { drawNoise, Generator } from "../../src/lab/random.ts";
import {
  Adam, computeGradient, computeScales, countParameters, denoisePoints, drawBatch, estimateFloor, INPUTS,
  makeNetwork, train,
} from "../../src/lab/tiny.ts";
import { readGolden } from "./golden.ts";

const far = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i])));

test("loss, gradient and a step of Adam are torch's", () => {
  const { before, inputs, targets, loss, gradient, after } = readGolden<any>("tiny");
  const network = { hidden: 8, parameters: Float64Array.from(before) };
  expect(network.parameters.length).toBe(countParameters(8));
  const own = computeGradient(network, Float64Array.from(inputs), Float64Array.from(targets));
  expect(own.loss).toBeCloseTo(loss, 12);
  expect(far(own.gradient, gradient)).toBeLessThan(1e-12);
  new Adam(network.parameters.length).step(network.parameters, own.gradient, 0.01);
  expect(far(network.parameters, after)).toBeLessThan(1e-9); // torch divides in another order
});

test("v is the target that Python computes", () => {
  const [sigma, x0, noise, target] = readGolden<any>("tiny").v;
  const [signal, scale] = computeScales(sigma);
  expect(far(x0.map((x: number, i: number) => signal * noise[i] - scale * x), target)).toBeLessThan(1e-15);
});

test("a network that knows v exactly gives back x0", () => {
  const network = makeNetwork(1, 8); // its last layer is zero: v is b3
  network.parameters.set([0.3, -0.2], network.parameters.length - 2);
  const [signal, scale] = computeScales(1.5);
  const x = Float64Array.from([2, -1]);
  const x0 = denoisePoints(network, x, 1.5);
  expect(x0[0]).toBeCloseTo(signal * signal * 2 - scale * 0.3, 12);
});

test("no guess is better than the floor, and training comes near it", () => {
  const data = { points: makePoints("ring", 60), deviation: 0.05 };
  const request = { data, seed: 1, steps: 300, rows: 64, rate: 0.01, hidden: 32 };
  const states = [...train(request, 100, drawNoise(3, 400))];
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  expect(states.map((s) => s.step)).toEqual([100, 200, 300]);
  const [first, last] = [states[0], states.at(-1)!];
  expect(last.loss).toBeLessThan(first.loss);
  expect(last.loss - last.floor).toBeGreaterThan(-0.2); // the floor is that of 64 rows
  expect(last.loss - last.floor).toBeLessThan(0.3);
  const radii = Array.from({ length: 200 }, (_, i) => Math.hypot(last.drawn[2 * i], last.drawn[2 * i + 1]));
  expect(mean(radii.map((r) => Math.abs(r - 1)))).toBeLessThan(0.2);
});

test("the floor of a batch is what the exact answer loses", () => {
  const data = { points: makePoints("blobs", 40), deviation: 0.05 };
  const batch = drawBatch(data, 4096, new Generator(2));
  let loss = 0;
  for (let r = 0; r < 4096; r++) {
    const [x, y] = batch.noisy.slice(2 * r, 2 * r + 2);
    const { mean } = computePosterior(data, x, y, batch.sigmas[r]);
    const [signal, scale] = computeScales(batch.sigmas[r]);
    for (const [k, value] of [x, y].entries())
      loss += ((signal ** 2 * value - mean[k]) / scale - batch.targets[2 * r + k]) ** 2 / 4096;
  }
  expect(batch.inputs.length).toBe(4096 * INPUTS);
  expect(loss / estimateFloor(data, batch)).toBeCloseTo(1, 1); // 4,096 rows: about 2 %
});
