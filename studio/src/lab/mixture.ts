/** Data of one dimension whose denoiser and whose exact solution are known: a mixture of Gaussians.
 * The same data as in tests/mixtures.py, on which this project's samplers are proven. */

export interface Mixture {
  weights: number[];
  means: number[];
  deviations: number[];
}

export const MIXTURE: Mixture = {
  weights: [0.3, 0.45, 0.25], means: [-1.2, 0.4, 1.5], deviations: [0.4, 0.5, 0.3],
};

/** E[x0 | x] at sigma: each component's own Gaussian answer, weighed by how likely it made x. */
export function denoise(mixture: Mixture, x: number, sigma: number): number {
  const { weights, means, deviations } = mixture;
  const spreads = deviations.map((c) => Math.hypot(c, sigma));
  const logs = weights.map((w, k) => Math.log(w / spreads[k]) - ((x - means[k]) / spreads[k]) ** 2 / 2);
  const top = Math.max(...logs);
  let sum = 0, total = 0;
  for (let k = 0; k < weights.length; k++) {
    const likely = Math.exp(logs[k] - top);
    total += likely;
    sum += likely * (means[k] + (x - means[k]) * (deviations[k] / spreads[k]) ** 2);
  }
  return sum / total;
}

/** The density of x at sigma. */
export function density(mixture: Mixture, x: number, sigma: number): number {
  return mixture.weights.reduce((sum, w, k) => {
    const spread = Math.hypot(mixture.deviations[k], sigma);
    const z = (x - mixture.means[k]) / spread;
    return sum + (w * Math.exp((-z * z) / 2)) / (spread * Math.sqrt(2 * Math.PI));
  }, 0);
}

/** The distribution function of the standard normal (Marsaglia 2004, "Evaluating the normal
 * distribution": the series around 0). Its absolute error is below 1e-15. */
export function normalCdf(z: number): number {
  if (Math.abs(z) > 8.5) return z < 0 ? 0 : 1;
  let sum = z, term = z;
  for (let k = 3, before = 0; sum !== before; k += 2) {
    before = sum;
    term *= (z * z) / k;
    sum += term;
  }
  return 0.5 + (sum * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI);
}

export function quantileOf(mixture: Mixture, x: number, sigma: number): number {
  return mixture.weights.reduce(
    (sum, w, k) =>
      sum + w * normalCdf((x - mixture.means[k]) / Math.hypot(mixture.deviations[k], sigma)), 0);
}

/** The z with normalCdf(z) = p, by bisection. */
export function normalQuantile(p: number): number {
  return bisect((z) => normalCdf(z) < p, -8.5, 8.5);
}

/** Where the probability-flow ODE takes x from the level `start` to `end`. It moves every point
 * along with the density, and in one dimension that keeps its quantile. */
export function solveExactly(mixture: Mixture, x: number, start: number, end: number): number {
  const quantile = quantileOf(mixture, x, start);
  return bisect((y) => quantileOf(mixture, y, end) < quantile, -100, 100);
}

function bisect(isBelow: (x: number) => boolean, low: number, high: number): number {
  for (let i = 0; i < 60; i++) { // 200 / 2⁶⁰: all of float64
    const middle = (low + high) / 2;
    if (isBelow(middle)) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
