/**
 * PyTorch's random numbers on a CPU, to the bit: the Mersenne Twister and the two normal transforms
 * of torch.randn. Sources: ATen/core/MT19937RNGEngine.h, ATen/native/cpu/DistributionTemplates.h and
 * avx_mathfun.h (Cephes' logf, sinf and cosf) of PyTorch 2.13, on a processor with AVX2. There,
 * products that a sum takes are fused with it: one rounding, not two.
 */

const f32 = Math.fround;
const bits = new DataView(new ArrayBuffer(8));
const wide = new Float64Array(1);
const low = new Uint32Array(wide.buffer, new Uint8Array(new Uint16Array([1]).buffer)[0] ? 0 : 4, 1); // its low word

/** a·b + c with one rounding to float32, for float32 a, b, c. The product of two float32 numbers is
 * exact in float64. The sum is not: it is corrected where it lies between two float32 numbers. */
function fuse(a: number, b: number, c: number): number {
  const product = a * b;
  const sum = product + c;
  wide[0] = sum;
  if ((low[0] & 0x1fffffff) !== 0x10000000) return f32(sum); // no tie
  const part = sum - product;
  const error = product - (sum - part) + (c - part);
  return f32(sum + Math.sign(error) * Math.abs(sum) * 2 ** -50); // off the tie, to the exact side
}

/** Horner's rule in float32. */
function evaluate(x: number, coefficients: number[]): number {
  let sum = coefficients[0];
  for (let i = 1; i < coefficients.length; i++) sum = fuse(sum, x, coefficients[i]);
  return sum;
}

const LOG = [
  7.0376836292e-2, -1.151461031e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
  -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
].map(f32);
const COSINE = [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2].map(f32);
const SINE = [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1].map(f32);
const EIGHTH = [-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8].map(f32); // −π/4
const LOG2 = [-2.12194440e-4, 0.693359375].map(f32); // ln 2 in two parts
const ROOT_HALF = f32(Math.SQRT1_2);
const TWO_PI = f32(2 * Math.PI);
const FOUR_OVER_PI = f32(4 / Math.PI);

/** ln x in float32, for a normal x > 0. */
function log(x: number): number {
  bits.setFloat32(0, x);
  const word = bits.getUint32(0);
  bits.setUint32(0, (word & 0x807fffff) | 0x3f000000); // the fraction, in [½, 1)
  let fraction = bits.getFloat32(0);
  let exponent = (word >>> 23) - 126;
  if (fraction < ROOT_HALF) {
    exponent -= 1;
    fraction = f32(f32(fraction - 1) + fraction);
  } else {
    fraction = f32(fraction - 1);
  }
  const square = f32(fraction * fraction);
  let y = f32(evaluate(fraction, LOG) * fraction);
  y = fuse(y, square, f32(exponent * LOG2[0]));
  y = fuse(-square, 0.5, y);
  return fuse(exponent, LOG2[1], f32(fraction + y));
}

/** [sin x, cos x] in float32, for x ≥ 0. */
function sincos(x: number): [number, number] {
  const octant = (Math.trunc(f32(x * FOUR_OVER_PI)) + 1) & ~1;
  for (const part of EIGHTH) x = fuse(octant, part, x);
  const square = f32(x * x);
  let y = f32(evaluate(square, COSINE) * square);
  const cosine = f32(fuse(y, square, -f32(square * 0.5)) + 1);
  y = f32(evaluate(square, SINE) * square);
  const sine = fuse(y, x, x);
  const straight = (octant & 2) === 0;
  return [
    (straight ? sine : cosine) * (octant & 4 ? -1 : 1),
    (straight ? cosine : sine) * ((octant - 2) & 4 ? 1 : -1),
  ];
}

/** A torch.Generator on the CPU: its normal numbers go on from call to call. */
export class Generator {
  private readonly state = new Uint32Array(624);
  private place = 0; // of the word that comes next
  private kept: number | null = null; // the second value of the last pair, in float64

  /** seed: an integer from 0. As in PyTorch, only its low 32 bits count. */
  constructor(seed: number) {
    this.restart(seed);
  }

  /** Begins anew with another seed. */
  restart(seed: number): void {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new RangeError(`The seed ${seed} cannot be used. Give an integer from 0 to 2^32 − 1.`);
    }
    const { state } = this;
    [this.place, this.kept] = [0, null];
    state[0] = seed % 2 ** 32;
    for (let i = 1; i < 624; i++) {
      state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
    }
  }

  /** The next 32 bits (Matsumoto & Nishimura 1998, MT19937). */
  drawWord(): number {
    const { state, place } = this;
    const mixed = (state[place] & 0x80000000) | (state[(place + 1) % 624] & 0x7fffffff);
    let y = state[(place + 397) % 624] ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0);
    state[place] = y;
    this.place = (place + 1) % 624;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** torch.rand's next number in [0, 1), of 24 bits. */
  drawUniform(): number {
    return (this.drawWord() & 0xffffff) * 2 ** -24;
  }

  private drawUniform64(): number {
    const high = this.drawWord() & 0x1fffff;
    return (high * 2 ** 32 + this.drawWord()) * 2 ** -53;
  }

  /** torch.randn(count, generator=this). */
  drawNormal(count: number): Float32Array<ArrayBuffer> {
    const values = new Float32Array(count);
    if (count < 16) return values.map(() => this.drawOne());
    for (let i = 0; i < count; i++) values[i] = this.drawUniform();
    for (let i = 0; i + 16 <= count; i += 16) transform(values.subarray(i, i + 16));
    if (count % 16) {
      const end = values.subarray(count - 16);
      for (let i = 0; i < 16; i++) end[i] = this.drawUniform();
      transform(end);
    }
    return values;
  }

  private drawOne(): number {
    if (this.kept !== null) {
      const value = this.kept;
      this.kept = null;
      return value;
    }
    const angle = 2 * Math.PI * this.drawUniform64();
    const radius = Math.sqrt(-2 * Math.log1p(-this.drawUniform64()));
    this.kept = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }
}

/** 16 uniform numbers → 16 normal ones, in place (Box & Muller 1958). */
function transform(block: Float32Array): void {
  for (let i = 0; i < 8; i++) {
    const radius = f32(Math.sqrt(f32(-2 * log(f32(1 - block[i])))));
    const [sine, cosine] = sincos(f32(TWO_PI * block[i + 8]));
    block[i] = radius * cosine + 0;
    block[i + 8] = radius * sine + 0;
  }
}

/** torch.randn(count, generator=torch.Generator().manual_seed(seed)). */
export function drawNoise(seed: number, count: number): Float32Array<ArrayBuffer> {
  return new Generator(seed).drawNormal(count);
}
