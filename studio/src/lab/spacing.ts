/** Spacings: which noise levels a run visits, as in src/fromnoise/diffusion/spacing.py and
 * spacings/. Each gives n positive levels, highest first. */

import type { NoiseSchedule } from "./schedule.ts";

export interface SpacingOptions {
  sigmaMin?: number;
  sigmaMax?: number;
  rho?: number;
  alpha?: number;
  beta?: number;
  thresholdNoise?: number;
  stepsOffset?: number;
}

export interface Spacing {
  label: string; // its name in A1111's web UI
  timesteps: boolean; // whether it visits timesteps: then a run has at most T levels
  make(schedule: NoiseSchedule, n: number, options: SpacingOptions): number[];
}

const MAX_STEPS = 10_000;

/** n numbers even from 0 to 1, both included; [0] for n = 1. */
function makeRamp(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i / Math.max(n - 1, 1));
}

function resolveRange(schedule: NoiseSchedule, options: SpacingOptions): [number, number] {
  const low = options.sigmaMin ?? schedule.sigmas[0];
  const high = options.sigmaMax ?? schedule.sigmas[schedule.length - 1];
  if (!(0 < low && low < high && high < Infinity)) {
    throw new RangeError(
      `The levels ${low} and ${high} span no range. Give 0 < sigmaMin < sigmaMax, both finite.`,
    );
  }
  return [low, high];
}

function checkRange(name: string, value: number, low: number, high: number, usual: number): number {
  if (!(low < value && value <= high)) {
    throw new RangeError(
      `${name} ${value} cannot be used. Give a number above ${low}, up to ${high}; ${usual} is usual.`,
    );
  }
  return value;
}

/** Rounds half to even, as Python does. */
function round(x: number): number {
  const whole = Math.round(x);
  return whole - x === 0.5 && whole % 2 ? whole - 1 : whole;
}

/** Spacings that are a list of timesteps. */
function ofTimesteps(label: string, list: (T: number, n: number, offset: number) => number[]): Spacing {
  return {
    label,
    timesteps: true,
    make: (schedule, n, { stepsOffset = 0 }) =>
      list(schedule.length, n, stepsOffset).map((t) => schedule.tToSigma(t)),
  };
}

const indices = (n: number) => Array.from({ length: n }, (_, i) => i);

export const SPACINGS: Record<string, Spacing> = {
  // even in sigma^(1/rho), so denser where sigma is small (Karras et al. 2022, eq. 5)
  karras: {
    label: "Karras",
    timesteps: false,
    make(schedule, n, options) {
      const rho = checkRange("rho", options.rho ?? 7, 0, 1000, 7);
      const [low, high] = resolveRange(schedule, options).map((sigma) => sigma ** (1 / rho));
      return makeRamp(n).map((u) => (high + u * (low - high)) ** rho);
    },
  },
  // even in log sigma
  exponential: {
    label: "Exponential",
    timesteps: false,
    make(schedule, n, options) {
      const [low, high] = resolveRange(schedule, options).map(Math.log);
      return makeRamp(n).map((u) => Math.exp(high + u * (low - high)));
    },
  },
  // log sigma is the power rho of an even ramp
  polyexponential: {
    label: "Polyexponential",
    timesteps: false,
    make(schedule, n, options) {
      const rho = checkRange("rho", options.rho ?? 1, 0, 1000, 1);
      const [low, high] = resolveRange(schedule, options).map(Math.log);
      return makeRamp(n).map((u) => Math.exp(low + (1 - u) ** rho * (high - low)));
    },
  },
  // even in arctan sigma (Sabour et al. 2024, theorem 3.1)
  kl_optimal: {
    label: "KL Optimal",
    timesteps: false,
    make(schedule, n, options) {
      const [low, high] = resolveRange(schedule, options);
      const [start, end] = [Math.atan(1 / high), Math.atan(1 / low)];
      return makeRamp(n).map((u) => 1 / Math.tan(start + u * (end - start)));
    },
  },
  // straight down at first, then a parabola with the same slope (Genmo's Mochi 1)
  linear_quadratic: {
    label: "Linear Quadratic",
    timesteps: false,
    make(schedule, n, options) {
      const high = resolveRange(schedule, {})[1];
      const threshold = checkRange("thresholdNoise", options.thresholdNoise ?? 0.025, 0, 1, 0.025);
      const linear = Math.max(Math.floor(n / 2), 1);
      const slope = threshold / linear;
      const bend = (1 - slope * n) / Math.max(n - linear, 1) ** 2;
      return indices(n).map((i) => high * (1 - slope * i - bend * Math.max(i - linear, 0) ** 2));
    },
  },
  // at the quantiles of Beta(alpha, beta): below 1 denser at both ends (Lee et al. 2024)
  beta: {
    label: "Beta",
    timesteps: false,
    make(schedule, n, options) {
      const alpha = checkRange("alpha", options.alpha ?? 0.6, 0.01, 100, 0.6);
      const beta = checkRange("beta", options.beta ?? 0.6, 0.01, 100, 0.6);
      const [low, high] = resolveRange(schedule, {});
      return makeRamp(n).map((u) => low + computeQuantile(1 - u, alpha, beta) * (high - low));
    },
  },
  // timesteps even from T − 1 to 0, both included
  linspace: ofTimesteps("Uniform", (T, n) => makeRamp(n).map((u) => (T - 1) * (1 - u))),
  // the same with one more timestep, without the last, 0
  sgm_uniform: ofTimesteps("SGM Uniform", (T, n) => indices(n).map((i) => (T - 1) * (1 - i / n))),
  // multiples of T // n (Lin et al. 2023, table 2)
  leading: ofTimesteps("Leading", (T, n, offset) =>
    indices(n).map((i) => Math.floor(T / n) * (n - 1 - i) + offset),
  ),
  // T − 1 down in strides of T / n, rounded
  trailing: ofTimesteps("Trailing", (T, n) => indices(n).map((i) => round(T - i * (T / n)) - 1)),
  // the same, each stride cut to a whole number
  simple: ofTimesteps("Simple", (T, n) => indices(n).map((i) => T - 1 - Math.floor(i * (T / n)))),
  // 1, 1 + s, 1 + 2s, … below T with s = T // n; not always n levels
  ddim: ofTimesteps("DDIM", (T, n) => {
    const stride = Math.floor(T / n);
    return indices(Math.ceil((T - 1) / stride)).map((i) => 1 + i * stride).reverse();
  }),
};

export const ALIASES: Record<string, string> = {
  uniform: "linspace", normal: "linspace", ddim_uniform: "ddim",
};

/** The noise levels of a run, strictly decreasing: the spacing's, then 0.
 *
 * discardPenultimate: the spacing makes one more level, then the smallest positive one is removed
 * (A1111's choice for its DPM2 samplers). */
export function makeSigmas(
  schedule: NoiseSchedule,
  steps: number,
  spacing = "karras",
  options: SpacingOptions & { discardPenultimate?: boolean } = {},
): number[] {
  const entry = SPACINGS[ALIASES[spacing] ?? spacing];
  if (!entry) {
    const names = Object.keys(SPACINGS).join(", ");
    throw new RangeError(`There is no spacing "${spacing}". Choose one of: ${names}.`);
  }
  const n = steps + (options.discardPenultimate ? 1 : 0);
  const most = entry.timesteps ? schedule.length : MAX_STEPS;
  if (!Number.isInteger(steps) || steps < 1 || n > most) {
    throw new RangeError(`A run of ${steps} steps is not possible. Give a whole number from 1 to ${most}.`);
  }
  const levels = entry.make(schedule, n, options);
  if (options.discardPenultimate) levels.pop();
  levels.push(0);
  if (levels.length < 2 || !levels.every((s, i) => s < Infinity && (i === 0 || s < levels[i - 1]))) {
    throw new RangeError(`The levels of ${spacing} do not fall. Use fewer steps or other options.`);
  }
  return levels;
}

/** The x ∈ [0, 1] with I_x(a, b) = p, by Newton's steps; one that leaves the bracket becomes a
 * halving. */
function computeQuantile(p: number, a: number, b: number): number {
  if (p === 0 || p === 1) return p;
  let [low, high, x] = [0, 1, 0.5];
  for (let i = 0; i < 200; i++) {
    const excess = computeBeta(x, a, b) - p;
    if (excess > 0) high = x;
    else low = x;
    const mass = computeMass(x, a, b);
    let next = mass ? x - (excess * x * (1 - x)) / mass : low;
    if (!(low < next && next < high)) next = (low + high) / 2;
    if (Math.abs(next - x) <= 1e-14 * x) return next;
    x = next;
  }
  return x;
}

/** The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22). */
function computeBeta(x: number, a: number, b: number): number {
  if (x > (a + 1) / (a + b + 2)) return 1 - computeBeta(1 - x, b, a);
  let [value, c, d] = [1, 1, 0];
  for (let k = 1; k < 1000; k++) {
    const m = Math.floor(k / 2);
    const term = k % 2
      ? (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))
      : (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    c = 1 + term / c;
    d = 1 / (1 + term * d);
    value *= c * d;
    if (Math.abs(c * d - 1) < 1e-15) break;
  }
  return computeMass(x, a, b) / (a * value);
}

/** x^a (1 − x)^b / B(a, b). */
function computeMass(x: number, a: number, b: number): number {
  const logB = logGamma(a) + logGamma(b) - logGamma(a + b);
  return Math.exp(a * Math.log(x) + b * Math.log1p(-x) - logB);
}

/** ln Γ(x) for x > 0: Stirling's series from 10 on, below it by Γ(x) = Γ(x + 1) / x. */
function logGamma(x: number): number {
  let shift = 0;
  for (; x < 10; x++) shift -= Math.log(x);
  const s = 1 / x ** 2;
  const series = (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s / 1188)))) / x;
  return shift + (x - 0.5) * Math.log(x) - x + Math.log(2 * Math.PI) / 2 + series;
}
