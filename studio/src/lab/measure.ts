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

/** The share of colour values that lie within 2 levels of an end of their range, 0 or 255. */
export function edgeShare(picture: Picture): number {
  const colours = listColours(picture);
  return colours.reduce((n, value) => n + Number(value <= 2 || value >= 253), 0) / colours.length;
}

/** The mean difference of a pixel from its neighbour to the right, in levels of 255: how many lines
 * a picture has, and how sharp they are. */
export function measureEdges({ pixels, width, height }: Picture): number {
  let sum = 0;
  for (let y = 0; y < height; y++) {
    for (let i = 4 * y * width; i < 4 * ((y + 1) * width - 1); i++) {
      if (i % 4 < 3) sum += Math.abs(pixels[i + 4] - pixels[i]);
    }
  }
  return sum / (3 * height * (width - 1));
}

/** How much a colour value differs from picture to picture, in levels of 255: the standard deviation
 * over the pictures, the mean over all values. */
export function measureSpread(pictures: Picture[]): number {
  const values = pictures.map(listColours);
  let sum = 0;
  for (let i = 0; i < values[0].length; i++) {
    const mean = values.reduce((total, colours) => total + colours[i], 0) / values.length;
    const squares = values.reduce((total, colours) => total + (colours[i] - mean) ** 2, 0);
    sum += Math.sqrt(squares / (values.length - 1));
  }
  return sum / values[0].length;
}

/** The share of squares of `side` pixels whose colours differ by more than 4 levels of 255 on
 * average, which can just be seen. */
export function measureChange(a: Picture, b: Picture, side: number): number {
  const [across, down] = [a.width / side, a.height / side];
  const sums = new Float64Array(across * down);
  for (let y = 0; y < a.height; y++) {
    for (let x = 0; x < a.width; x++) {
      const i = 4 * (y * a.width + x);
      for (let k = i; k < i + 3; k++) {
        sums[Math.floor(y / side) * across + Math.floor(x / side)] += Math.abs(a.pixels[k] - b.pixels[k]);
      }
    }
  }
  return sums.reduce((n, sum) => n + Number(sum / (3 * side * side) > 4), 0) / sums.length;
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
