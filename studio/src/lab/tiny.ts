/**
 * A diffusion model of points in the plane: a network of two hidden layers, its gradient written by
 * hand, and Adam. It learns v as the bundled model does: the loss is |F(x_t, sigma) − v|² with
 * v = √ᾱ·eps − √(1 − ᾱ)·x0.
 */
import { computePosterior, makeLevels, type PlaneData } from "./field.ts";
import { Generator } from "./random.ts";

export const INPUTS = 5; // x, y, and three features of the noise level
export const [SIGMA_LOW, SIGMA_HIGH] = [0.02, 8];

/** out = W3·f(W2·f(W1·in + b1) + b2) + b3 with f(z) = z / (1 + e^−z), called SiLU. */
export interface Network {
  hidden: number;
  parameters: Float64Array; // W1, b1, W2, b2, W3, b3, one after another
}

/** The places of the six parts in `parameters`. */
function slice(hidden: number, values: Float64Array) {
  let place = 0;
  const take = (count: number) => values.subarray(place, (place += count));
  return {
    w1: take(hidden * INPUTS), b1: take(hidden), w2: take(hidden * hidden), b2: take(hidden),
    w3: take(2 * hidden), b3: take(2),
  };
}

export function countParameters(hidden: number): number {
  return hidden * INPUTS + hidden + hidden * hidden + hidden + 2 * hidden + 2;
}

/** Weights of deviation 1/√inputs; the last layer starts at zero. */
export function makeNetwork(seed: number, hidden = 64): Network {
  const parameters = new Float64Array(countParameters(hidden));
  const { w1, b1, w2 } = slice(hidden, parameters);
  const generator = new Generator(seed);
  w1.set(generator.drawNormal(w1.length).map((n) => n / Math.sqrt(INPUTS)));
  b1.set(generator.drawNormal(hidden).map((n) => n / 2));
  w2.set(generator.drawNormal(w2.length).map((n) => n / Math.sqrt(hidden)));
  return { hidden, parameters };
}

/** √ᾱ and √(1 − ᾱ) at sigma. */
export function computeScales(sigma: number): [number, number] {
  const root = Math.sqrt(1 + sigma * sigma);
  return [1 / root, sigma / root];
}

/** What the network sees of x = x0 + sigma·n: √ᾱ·x, of ordinary size at any level, and the level. */
export function writeInputs(inputs: Float64Array, row: number, x: number, y: number, sigma: number): void {
  const [signal] = computeScales(sigma);
  const level = Math.log(sigma) / 2;
  inputs.set([2 * signal * x, 2 * signal * y, level, Math.sin(2 * level), Math.cos(2 * level)], row * INPUTS);
}

/** The network's answers, (rows, 2) flat. */
export function evaluate(network: Network, inputs: Float64Array): Float64Array {
  return runForward(network, inputs).out;
}

function runForward(network: Network, inputs: Float64Array) {
  const { hidden } = network;
  const { w1, b1, w2, b2, w3, b3 } = slice(hidden, network.parameters);
  const rows = inputs.length / INPUTS;
  const z1 = applyLayer(w1, b1, inputs, rows), h1 = z1.map(silu);
  const z2 = applyLayer(w2, b2, h1, rows), h2 = z2.map(silu);
  return { rows, z1, h1, z2, h2, out: applyLayer(w3, b3, h2, rows) };
}

/** (rows, in) → (rows, out) = in·Wᵀ + b. Two sums at a time, as one alone waits for itself. */
function applyLayer(w: Float64Array, b: Float64Array, x: Float64Array, rows: number): Float64Array {
  const [size, inputs] = [b.length, x.length / rows];
  const out = new Float64Array(rows * size);
  for (let r = 0; r < rows; r++) {
    const from = r * inputs;
    for (let j = 0; j < size; j += 2) {
      let [first, second] = [b[j], b[j + 1]];
      for (let i = 0, p = j * inputs, q = p + inputs; i < inputs; i++, p++, q++) {
        const value = x[from + i];
        first += w[p] * value;
        second += w[q] * value;
      }
      out[r * size + j] = first;
      out[r * size + j + 1] = second;
    }
  }
  return out;
}

/** Adds the gradients of a layer to dw and db, from that of its output. Returns that of its input. */
function differentiateLayer(
  w: Float64Array, dw: Float64Array, db: Float64Array, x: Float64Array, dOut: Float64Array, rows: number,
): Float64Array {
  const [size, inputs] = [db.length, x.length / rows];
  const dx = new Float64Array(x.length);
  for (let r = 0; r < rows; r++) {
    const from = r * inputs;
    for (let j = 0; j < size; j += 2) {
      const [first, second] = [dOut[r * size + j], dOut[r * size + j + 1]];
      db[j] += first;
      db[j + 1] += second;
      for (let i = 0, p = j * inputs, q = p + inputs; i < inputs; i++, p++, q++) {
        const value = x[from + i];
        dw[p] += first * value;
        dw[q] += second * value;
        dx[from + i] += first * w[p] + second * w[q];
      }
    }
  }
  return dx;
}

const silu = (z: number) => z / (1 + Math.exp(-z));

function multiplyBySlope(d: Float64Array, z: Float64Array): Float64Array {
  return d.map((value, i) => {
    const s = 1 / (1 + Math.exp(-z[i]));
    return value * s * (1 + z[i] * (1 - s));
  });
}

/** The mean of |out − target|² over the rows (both axes summed), and its gradient. */
export function computeGradient(network: Network, inputs: Float64Array, targets: Float64Array) {
  const { rows, z1, h1, z2, h2, out } = runForward(network, inputs);
  const gradient = new Float64Array(network.parameters.length);
  const layers = slice(network.hidden, network.parameters);
  const slopes = slice(network.hidden, gradient);
  const errors = out.map((value, i) => value - targets[i]);
  const loss = errors.reduce((sum, e) => sum + e * e, 0) / rows;
  const d3 = errors.map((e) => (2 * e) / rows);
  const d2 = multiplyBySlope(differentiateLayer(layers.w3, slopes.w3, slopes.b3, h2, d3, rows), z2);
  const d1 = multiplyBySlope(differentiateLayer(layers.w2, slopes.w2, slopes.b2, h1, d2, rows), z1);
  differentiateLayer(layers.w1, slopes.w1, slopes.b1, inputs, d1, rows);
  return { loss, gradient };
}

/** Adam (Kingma & Ba 2015, algorithm 1) with its usual constants. */
export class Adam {
  private steps = 0;
  private readonly mean: Float64Array;
  private readonly square: Float64Array;

  constructor(count: number) {
    this.mean = new Float64Array(count);
    this.square = new Float64Array(count);
  }

  step(parameters: Float64Array, gradient: Float64Array, rate: number): void {
    this.steps += 1;
    const [c1, c2] = [1 - 0.9 ** this.steps, 1 - 0.999 ** this.steps];
    for (let i = 0; i < parameters.length; i++) {
      const g = gradient[i];
      this.mean[i] = 0.9 * this.mean[i] + 0.1 * g;
      this.square[i] = 0.999 * this.square[i] + 0.001 * g * g;
      parameters[i] -= (rate * (this.mean[i] / c1)) / (Math.sqrt(this.square[i] / c2) + 1e-8);
    }
  }
}

export interface Batch {
  inputs: Float64Array; // (rows, INPUTS)
  targets: Float64Array; // (rows, 2): v
  noisy: Float64Array; // (rows, 2): x = x0 + sigma·n
  sigmas: Float64Array; // (rows,)
}

/** The guessing game: points, noise of levels even in log sigma, and the v that is to be guessed. */
export function drawBatch(data: PlaneData, rows: number, generator: Generator): Batch {
  const count = data.points.length / 2;
  const normal = generator.drawNormal(4 * rows);
  const batch = {
    inputs: new Float64Array(rows * INPUTS), targets: new Float64Array(2 * rows),
    noisy: new Float64Array(2 * rows), sigmas: new Float64Array(rows),
  };
  for (let r = 0; r < rows; r++) {
    const point = Math.floor(generator.drawUniform() * count);
    const place = (r + generator.drawUniform()) / rows; // one level in each part of the range
    const sigma = SIGMA_HIGH * (SIGMA_LOW / SIGMA_HIGH) ** place;
    const [signal, scale] = computeScales(sigma);
    for (let k = 0; k < 2; k++) {
      const x0 = data.points[2 * point + k] + data.deviation * normal[4 * r + k];
      const n = normal[4 * r + 2 + k];
      batch.noisy[2 * r + k] = x0 + sigma * n;
      batch.targets[2 * r + k] = signal * n - scale * x0;
    }
    batch.sigmas[r] = sigma;
    writeInputs(batch.inputs, r, batch.noisy[2 * r], batch.noisy[2 * r + 1], sigma);
  }
  return batch;
}

/** The loss of the best possible guess on a batch. v = (√ᾱ·x_t − x0) / √(1 − ᾱ), so what cannot be
 * known of v is the variance of x0 given x, divided by 1 − ᾱ. */
export function estimateFloor(data: PlaneData, batch: Batch): number {
  return batch.sigmas.reduce((sum, sigma, r) => {
    const [xx, , yy] = computePosterior(data, batch.noisy[2 * r], batch.noisy[2 * r + 1], sigma).covariance;
    return sum + (xx + yy) / computeScales(sigma)[1] ** 2;
  }, 0) / batch.sigmas.length;
}

/** E[x0 | x] as the network sees it, for points x (rows, 2) of one level. */
export function denoisePoints(network: Network, x: Float64Array, sigma: number): Float64Array {
  const rows = x.length / 2;
  const inputs = new Float64Array(rows * INPUTS);
  for (let r = 0; r < rows; r++) writeInputs(inputs, r, x[2 * r], x[2 * r + 1], sigma);
  const v = evaluate(network, inputs);
  const [signal, scale] = computeScales(sigma);
  return x.map((value, i) => signal * signal * value - scale * v[i]); // √ᾱ·x_t − √(1 − ᾱ)·v
}

/** New points from noise, by Euler's rule. starts: unit noise (rows, 2). */
export function drawPoints(network: Network, starts: ArrayLike<number>, sigmas: number[]): Float64Array {
  let x = Float64Array.from(starts, (n) => n * sigmas[0]);
  for (let i = 0; i + 1 < sigmas.length; i++) {
    const x0 = denoisePoints(network, x, sigmas[i]);
    const keep = sigmas[i + 1] / sigmas[i];
    x = x.map((value, k) => x0[k] + (value - x0[k]) * keep);
  }
  return x;
}

export interface TrainingRequest {
  data: PlaneData;
  seed: number;
  steps: number;
  rows: number; // of a batch
  rate: number; // of learning, at the start
  hidden: number;
}

/** What is known after each piece of the training. */
export interface TrainingState {
  step: number; // finished steps
  loss: number; // the mean over the steps since the last state
  floor: number; // of the last batch
  drawn: Float64Array; // points from the network as it is now, (n, 2)
  drawing: number; // milliseconds that drawing them took
}

export const LEVELS = makeLevels(16, SIGMA_HIGH, SIGMA_LOW);

/** Trains in pieces of `every` steps. The rate falls to zero along half a cosine. `starts`: the unit
 * noise of the points that are drawn after each piece. */
export function* train(
  request: TrainingRequest, every: number, starts: ArrayLike<number>,
): globalThis.Generator<TrainingState & { network: Network }> {
  const generator = new Generator(request.seed);
  const network = makeNetwork(request.seed, request.hidden);
  const adam = new Adam(network.parameters.length);
  let loss = 0;
  for (let step = 1; step <= request.steps; step++) {
    const batch = drawBatch(request.data, request.rows, generator);
    const result = computeGradient(network, batch.inputs, batch.targets);
    const share = (step - 1) / request.steps;
    adam.step(network.parameters, result.gradient, (request.rate * (1 + Math.cos(Math.PI * share))) / 2);
    loss += result.loss / every;
    if (step % every) continue;
    const start = performance.now();
    const drawn = drawPoints(network, starts, LEVELS);
    const drawing = performance.now() - start;
    yield { step, loss, floor: estimateFloor(request.data, batch), network, drawn, drawing };
    loss = 0;
  }
}
