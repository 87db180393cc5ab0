/** Figures of latents and of pictures: means, distances, PSNR, histograms. */
import type { Picture } from "../engine/types.ts";

/** The mean of several arrays of one length, value by value. */
export function average(arrays: Float32Array[]): Float32Array {
  const sum = new Float64Array(arrays[0].length);
  for (const array of arrays) for (let i = 0; i < sum.length; i++) sum[i] += array[i];
  return Float32Array.from(sum, (value) => value / arrays.length);
}

/** Root mean square: 1 for unit noise. */
export function rms(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] ** 2;
  return Math.sqrt(sum / values.length);
}

/** The root mean square of a − b. */
export function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return Math.sqrt(sum / a.length);
}

/** The mean distance of two arrays, over all pairs. */
export function averageDistance(arrays: Float32Array[]): number {
  let sum = 0;
  let pairs = 0;
  for (let i = 0; i < arrays.length; i++) {
    for (let k = i + 1; k < arrays.length; k++, pairs++) sum += distance(arrays[i], arrays[k]);
  }
  return sum / pairs;
}

/** All values of a picture without its alpha: red, green, blue of one pixel after the other. */
export function listColours({ pixels }: Picture): Uint8ClampedArray {
  const colours = new Uint8ClampedArray((pixels.length / 4) * 3);
  for (let i = 0, k = 0; i < pixels.length; i += 4) {
    colours[k++] = pixels[i];
    colours[k++] = pixels[i + 1];
    colours[k++] = pixels[i + 2];
  }
  return colours;
}

/** Decibels between two pictures of one size; infinite where they are equal. */
export function psnr(a: Picture, b: Picture): number {
  return -20 * Math.log10(distance(listColours(a), listColours(b)) / 255);
}

/** The share of colour values that lie at an end of their range, 0 or 255. */
export function edgeShare(picture: Picture): number {
  const colours = listColours(picture);
  return colours.reduce((n, value) => n + Number(value === 0 || value === 255), 0) / colours.length;
}

/** How many values lie in each of `bins` equal parts of [low, high]. Values outside count at the
 * ends. */
export function histogram(
  values: ArrayLike<number>, bins: number, low: number, high: number,
): number[] {
  const counts = new Array<number>(bins).fill(0);
  for (let i = 0; i < values.length; i++) {
    const bin = Math.floor(((values[i] - low) / (high - low)) * bins);
    counts[Math.min(Math.max(bin, 0), bins - 1)]++;
  }
  return counts;
}
