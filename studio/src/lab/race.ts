/** What the solver race and the reader's own sampler are measured on. */
import type { NoiseSpec } from "../engine/pythonMessages.ts";
import type { Python } from "../engine/types.ts";
import { BrownianNoise } from "./brownian.ts";
import { denoise, MIXTURE, normalQuantile, solveExactly } from "./mixture.ts";

export const [LOW, HIGH] = [0.05, 20]; // the levels of a run
export const COUNT = 37; // starts: a range of quantiles, so that every part of the data is reached
export const STEPS = [2, 4, 8, 16, 32, 64, 128];

/** Karras' levels, `steps` + 1 of them, from HIGH to LOW: a step to 0 would hide the order. */
export function makeGrid(steps: number): number[] {
  const [low, high] = [LOW ** (1 / 7), HIGH ** (1 / 7)];
  return Array.from({ length: steps + 1 }, (_, i) => (high + (i / steps) * (low - high)) ** 7);
}

export function makeStarts(): Float64Array {
  return Float64Array.from({ length: COUNT }, (_, i) => HIGH * normalQuantile(0.05 + (0.9 * i) / (COUNT - 1)));
}

/** The end of every start on the exact path of the ODE. */
export function solveRace(starts: Float64Array): Float64Array {
  return starts.map((x) => solveExactly(MIXTURE, x, HIGH, LOW));
}

/** Root mean square of the differences. */
export function measureError(x: Float64Array, truth: Float64Array): number {
  return Math.sqrt(x.reduce((sum, value, i) => sum + (value - truth[i]) ** 2, 0) / x.length);
}

/** The slope of log error over log count, by least squares, with its sign turned: the order. */
export function fitOrder(points: { count: number; error: number }[]): number {
  const usable = points.filter((p) => p.error > 1e-13); // below: rounding of float64
  const [u, v] = [usable.map((p) => Math.log(p.count)), usable.map((p) => Math.log(p.error))];
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const [mu, mv] = [mean(u), mean(v)];
  const along = u.reduce((sum, x, i) => sum + (x - mu) * (v[i] - mv), 0);
  return -along / u.reduce((sum, x) => sum + (x - mu) ** 2, 0);
}

export type NoiseKind = "fresh" | "path";

/** Noise of a run. "path": one Brownian path for every number of steps. "fresh": new at each step,
 * and other noise for another number of steps. */
export function chooseNoise(kind: NoiseKind, seed: number, steps: number): NoiseSpec {
  if (kind === "path") return { kind: "brownian", seed, count: COUNT, low: LOW, high: HIGH };
  return { kind: "stream", seed: seed * 1000 + steps, count: COUNT };
}

/** The reverse SDE (eta 1) along one Brownian path, by ancestral Euler steps that are so small that
 * what is left of their error hardly shows in the plot. It pauses, so that the page stays quick. */
export async function solveOnPath(
  starts: Float64Array, seed: number, steps = 2048, signal?: AbortSignal,
): Promise<Float64Array> {
  const path = new BrownianNoise(seed, COUNT, LOW, HIGH);
  const grid = makeGrid(steps);
  const x = starts.slice();
  for (let i = 0; i < steps; i++) {
    const [s, t] = [grid[i], grid[i + 1]];
    const up = Math.min(t, t * Math.sqrt(1 - (t / s) ** 2));
    const down = Math.sqrt(t * t - up * up);
    const unit = path.draw(s, t);
    for (let k = 0; k < COUNT; k++)
      x[k] += ((x[k] - denoise(MIXTURE, x[k], s)) / s) * (down - s) + unit[k] * up;
    if (i % 64 === 63) {
      await new Promise((resolve) => setTimeout(resolve));
      signal?.throwIfAborted();
    }
  }
  return x;
}

export interface RacePoint {
  steps: number;
  calls: number;
  error: number;
}

/** One sampler with one number of steps: how far it lands from the truth. */
export async function runRace(
  python: Python,
  sampler: { name: string } | { source: string; function: string },
  steps: number, starts: Float64Array, truth: Float64Array,
  options: { noise: NoiseKind; seed: number; signal?: AbortSignal; seconds?: number },
): Promise<RacePoint & { milliseconds: number }> {
  const { x, calls, milliseconds } = await python.sample(sampler, starts, makeGrid(steps), "mixture", {
    noise: chooseNoise(options.noise, options.seed, steps), signal: options.signal, seconds: options.seconds,
  });
  return { steps, calls, error: measureError(x, truth), milliseconds };
}
