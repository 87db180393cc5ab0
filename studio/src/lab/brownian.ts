/** Noise from a Brownian path, with the bits of src/fromnoise/diffusion/brownian.py (the virtual
 * Brownian tree of torchsde 0.2.6): more steps refine a picture instead of drawing another one. */

import { Generator } from "./random.ts";

const f32 = Math.fround;
const POOL = 24; // words in the pool of torchsde's seed sequences
const POWERS = [1]; // of the hash's multiplier, modulo 2³²
for (let i = 0; i < POOL * POOL * 3; i++) POWERS.push(Math.imul(POWERS[i], 0x931e8875));

function hash(value: number, count: number): number {
  const mixed = Math.imul(
    value ^ Math.imul(0x43b0d7e5, POWERS[count]),
    Math.imul(0x43b0d7e5, POWERS[count + 1]),
  );
  return mixed ^ (mixed >>> 16);
}

function mix(x: number, y: number): number {
  const mixed = Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y);
  return mixed ^ (mixed >>> 16);
}

/** The first word of numpy's SeedSequence(seed, pool_size=24).pool (O'Neill 2015). */
export function hashEntropy(seed: number): number {
  const words = [seed % 2 ** 32, Math.floor(seed / 2 ** 32)];
  const pool = Array.from({ length: POOL }, (_, i) => hash(words[i] ?? 0, i));
  let count = POOL;
  for (let source = 0; source < POOL; source++) {
    for (let i = 0; i < POOL; i++) {
      if (i !== source) pool[i] = mix(pool[i], hash(pool[source], count++));
    }
  }
  return pool[0] >>> 0;
}

/** The seed of the node at `place`, SeedSequence(seed, spawn_key=place).generate_state(1)[0]. */
export function spawnSeed(entropy: number, place: number[]): number {
  let word = entropy;
  place.forEach((number, i) => {
    word = mix(word, hash(number, (POOL + i) * POOL)); // each earlier word took POOL hashes
  });
  word = Math.imul(word ^ 0x8b51f9dd, Math.imul(0x8b51f9dd, 0x58f38ded));
  return (word ^ (word >>> 16)) >>> 0;
}

/** Rounds to 6 digits as Python does: a tie, which is an odd multiple of 2⁻⁷, goes to the even one. */
export function roundTime(x: number): number {
  const scaled = x * 1e6;
  const distance = Math.abs(scaled - Math.trunc(scaled) - 0.5);
  if (distance > 1e-3 && x >= 0 && x < 1e6) return Math.round(scaled) / 1e6; // far from a tie: exact
  const rounded = Number(x.toFixed(6));
  const isTie = Number.isInteger(x * 128) && (x * 128) % 2 !== 0 && Math.round(x * 2e6) % 2 !== 0;
  return isTie && Math.round(rounded * 1e6) % 2 ? Number((rounded - 1e-6).toFixed(6)) : rounded;
}

export class BrownianNoise {
  private readonly low: number;
  private readonly high: number;
  private readonly entropy: number;
  private readonly total: Float32Array;
  private readonly generator = new Generator(0); // of each node in its turn: a state of its own is large
  /** The left increment of each node that the last query split, by number and depth. */
  private left = new Map<number, Float32Array>();

  /** The path of one seed over the noise levels [sigmaMin, sigmaMax], of `count` values. */
  constructor(seed: number, private readonly count: number, sigmaMin: number, sigmaMax: number) {
    if (!(0 <= sigmaMin && sigmaMin <= sigmaMax && sigmaMax < Infinity)) {
      throw new RangeError(`There is no Brownian path from ${sigmaMin} to ${sigmaMax}.`);
    }
    this.low = f32(sigmaMin);
    this.high = f32(sigmaMax);
    this.entropy = hashEntropy(seed);
    const scale = f32(Math.sqrt(this.high - this.low));
    this.total = this.drawUnit([]).map((value) => value * scale);
  }

  private drawUnit(place: number[]): Float32Array {
    this.generator.restart(spawnSeed(this.entropy, place));
    return this.generator.drawNormal(this.count);
  }

  /** (W(sigmaNext) − W(sigma)) / √|sigmaNext − sigma|: unit noise. */
  draw(sigma: number, sigmaNext: number): Float32Array<ArrayBuffer> {
    const levels = [f32(sigma), f32(sigmaNext)];
    if (!levels.every((s) => this.low * (1 - 1e-6) <= s && s <= this.high * (1 + 1e-6))) {
      throw new RangeError(
        `The Brownian path from ${this.low} to ${this.high} has no step from ${sigma} to ${sigmaNext}.`,
      );
    }
    const [start, end] = [roundTime(this.low), roundTime(this.high)];
    const [s, t] = levels.map((level) => Math.min(Math.max(roundTime(level), start), end));
    if (s === t) {
      throw new RangeError(
        `The noise levels ${sigma} and ${sigmaNext} are equal for a Brownian path. Use fewer steps.`,
      );
    }
    const used = new Map<number, Float32Array>();
    const sum = new Float32Array(this.count);
    this.addParts(0, 0, start, end, this.total, Math.min(s, t), Math.max(s, t), used, sum);
    this.left = used;
    const length = f32(levels[1] - levels[0]);
    const root = f32(Math.sqrt(Math.abs(length)));
    const sign = Math.sign(length);
    for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] * sign) / root;
    return sum;
  }

  /** Adds the increments over the nodes that tile [a, b], from left to right. The node `number` of its
   * depth is [start, end] with the increment w. */
  private addParts(
    number: number, depth: number, start: number, end: number, w: Float32Array,
    a: number, b: number, used: Map<number, Float32Array>, sum: Float32Array,
  ): void {
    if (a === start && b === end) {
      for (let i = 0; i < sum.length; i++) sum[i] += w[i];
      return;
    }
    const middle = roundTime(0.5 * (start + end));
    const key = number * 64 + depth; // depth is below 64
    const left = this.left.get(key) ?? this.bridge(number, depth, start, middle, end, w);
    used.set(key, left);
    if (a < middle) {
      this.addParts(2 * number, depth + 1, start, middle, left, a, Math.min(b, middle), used, sum);
    }
    if (b > middle) {
      const right = new Float32Array(w.length);
      for (let i = 0; i < w.length; i++) right[i] = w[i] - left[i];
      this.addParts(2 * number + 1, depth + 1, middle, end, right, Math.max(a, middle), b, used, sum);
    }
  }

  /** The left part of the increment w of [start, end], cut at `middle` (the Brownian bridge). */
  private bridge(
    number: number, depth: number, start: number, middle: number, end: number, w: Float32Array,
  ): Float32Array {
    const [left, right, inverse] = [middle - start, end - middle, 1 / (end - start)];
    const [share, scale] = [f32(inverse), f32(Math.sqrt(left * right * inverse))];
    const part = this.drawUnit([number, depth]);
    const width = f32(left);
    for (let i = 0; i < part.length; i++) {
      part[i] = f32(f32(width * w[i]) * share) + f32(part[i] * scale);
    }
    return part;
  }
}
