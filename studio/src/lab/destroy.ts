/** The forward process on a picture, as in src/fromnoise/diffusion/forward.py. */
import { NoiseSchedule } from "./schedule.ts";

export const SCHEDULES: Record<string, { label: string; make: () => NoiseSchedule }> = {
  bundled: { label: "the bundled model's", make: () => NoiseSchedule.scaledLinear(0.00085, 0.02) },
  scaled_linear: { label: "Stable Diffusion's", make: () => NoiseSchedule.scaledLinear(0.00085, 0.012) },
  linear: { label: "linear (the first DDPM)", make: () => NoiseSchedule.linear() },
  cosine: { label: "cosine", make: () => NoiseSchedule.cosine() },
};

/** √ᾱ·x0 + √(1 − ᾱ)·noise. */
export function addNoise(x0: Float32Array, noise: Float32Array, alphaBar: number): Float32Array {
  const [signal, sigma] = [Math.fround(Math.sqrt(alphaBar)), Math.fround(Math.sqrt(1 - alphaBar))];
  return x0.map((value, i) => Math.fround(signal * value) + Math.fround(sigma * noise[i]));
}

/** RGBA bytes, row by row → values in [−1, 1], channel by channel (3, h, w). */
export function readPixels(pixels: Uint8ClampedArray): Float32Array {
  const count = pixels.length / 4;
  const x0 = new Float32Array(3 * count);
  for (let c = 0; c < 3; c++)
    for (let i = 0; i < count; i++) x0[c * count + i] = pixels[4 * i + c] / 127.5 - 1;
  return x0;
}

/** The inverse of readPixels. What lies outside of [−1, 1] is cut off. */
export function writePixels(x: Float32Array): Uint8ClampedArray<ArrayBuffer> {
  const count = x.length / 3;
  const pixels = new Uint8ClampedArray(4 * count).fill(255);
  for (let c = 0; c < 3; c++)
    for (let i = 0; i < count; i++) pixels[4 * i + c] = (x[c * count + i] + 1) * 127.5;
  return pixels;
}
