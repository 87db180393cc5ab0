/** The noise schedule: tables of ᾱ and sigma by timestep, as in src/fromnoise/diffusion/schedule.py.
 * Everything after it is variance exploding: x = x0 + sigma·n. */

/** n numbers from `start` to `end`, both included (torch.linspace in float64). */
export function makeLinspace(start: number, end: number, n: number): number[] {
  const step = (end - start) / (n - 1);
  return Array.from({ length: n }, (_, i) =>
    i < n / 2 ? start + step * i : end - step * (n - 1 - i),
  );
}

export class NoiseSchedule {
  readonly alphaBar: Float64Array; // (T,) decreasing
  readonly sigmas: Float64Array; // (T,) √((1 − ᾱ) / ᾱ), increasing
  readonly logSigmas: Float64Array;

  constructor(alphaBar: ArrayLike<number>) {
    const table = Float64Array.from(alphaBar);
    const falls = table.every((a, i) => a > 0 && a < 1 && (i === 0 || a < table[i - 1]));
    if (table.length < 2 || !falls) {
      throw new RangeError("A noise schedule needs 2 or more values of ᾱ that fall inside (0, 1).");
    }
    this.alphaBar = table;
    this.sigmas = table.map((a) => Math.sqrt((1 - a) / a));
    this.logSigmas = this.sigmas.map(Math.log);
  }

  /** ᾱ_t = Π (1 − β_i) (Ho et al. 2020, eq. 4). */
  static fromBetas(betas: ArrayLike<number>): NoiseSchedule {
    let product = 1;
    return new NoiseSchedule(Float64Array.from(betas, (beta) => (product *= 1 - beta)));
  }

  /** √β is linear in t: Stable Diffusion's schedule. The defaults are the bundled model's. */
  static scaledLinear(betaStart = 0.00085, betaEnd = 0.02, T = 1000): NoiseSchedule {
    const roots = makeLinspace(Math.sqrt(betaStart), Math.sqrt(betaEnd), T);
    return NoiseSchedule.fromBetas(roots.map((root) => root ** 2));
  }

  /** β is linear in t (Ho et al. 2020). */
  static linear(betaStart = 0.0001, betaEnd = 0.02, T = 1000): NoiseSchedule {
    return NoiseSchedule.fromBetas(makeLinspace(betaStart, betaEnd, T));
  }

  /** ᾱ falls as a squared cosine (Nichol & Dhariwal 2021, eq. 17, with β at most 0.999). */
  static cosine(T = 1000, offset = 0.008): NoiseSchedule {
    const alphaBar = (t: number) => Math.cos((((t + offset) / (1 + offset)) * Math.PI) / 2) ** 2;
    return NoiseSchedule.fromBetas(
      Array.from({ length: T }, (_, i) =>
        Math.min(1 - alphaBar((i + 1) / T) / alphaBar(i / T), 0.999),
      ),
    );
  }

  get length(): number {
    return this.alphaBar.length;
  }

  /** The signal-to-noise ratio at a whole timestep, 1 / sigma². */
  snr(t: number): number {
    return this.alphaBar[t] / (1 - this.alphaBar[t]);
  }

  /** sigma at timestep t ∈ [0, T − 1], also a fraction: linear in log sigma between neighbours. */
  tToSigma(t: number): number {
    if (!(t >= 0 && t <= this.length - 1)) {
      throw new RangeError(`The timestep ${t} is outside of 0 … ${this.length - 1}.`);
    }
    const low = Math.min(Math.floor(t), this.length - 2);
    const [a, b] = [this.logSigmas[low], this.logSigmas[low + 1]];
    return Math.exp(a + (t - low) * (b - a));
  }

  /** The timestep at sigma, a fraction: the inverse of `tToSigma`. Beyond the table it is the nearest
   * end, because the network knows no other timesteps. */
  sigmaToT(sigma: number): number {
    const log = Math.log(sigma);
    const logs = this.logSigmas;
    let low = 0;
    for (let high = this.length - 1; high - low > 1; ) {
      const middle = (low + high) >> 1;
      if (logs[middle] <= log) low = middle;
      else high = middle;
    }
    const t = low + (log - logs[low]) / (logs[low + 1] - logs[low]);
    return Math.min(Math.max(t, 0), this.length - 1);
  }
}

export type PredictionType = "eps" | "v" | "x0" | "flow";

/** c_skip, c_out, c_in of x0 = c_skip·x + c_out·F(c_in·x, t), as in diffusion/parameterization.py
 * (Karras et al. 2022, eq. 7). */
export function computeCoefficients(
  prediction: PredictionType,
  sigma: number,
): { skip: number; out: number; in: number } {
  const root = Math.hypot(1, sigma); // 1 / √ᾱ
  switch (prediction) {
    case "eps":
      return { skip: 1, out: -sigma, in: 1 / root };
    case "v":
      return { skip: 1 / root ** 2, out: -sigma / root, in: 1 / root };
    case "x0":
      return { skip: 0, out: 1, in: 1 / root };
    case "flow":
      return { skip: 1 / (1 + sigma), out: -sigma / (1 + sigma), in: 1 / (1 + sigma) };
  }
}
