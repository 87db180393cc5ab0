/** Measures of a picture that can be named before looking, and how surprising their agreement is. */
import type { Picture } from "../engine/types.ts";

/** Luma of a pixel, 0 to 255 (ITU-R BT.601, as Pillow's convert("L") weighs colours). */
function luma(pixels: Uint8ClampedArray, i: number): number {
  return 0.299 * pixels[i] + 0.587 * pixels[i + 1] + 0.114 * pixels[i + 2];
}

/** The mean luma, 0 to 255. */
export function measureBrightness({ pixels }: Picture): number {
  let sum = 0;
  for (let i = 0; i < pixels.length; i += 4) sum += luma(pixels, i);
  return sum / (pixels.length / 4);
}

/** The mean difference between a pixel's strongest and its weakest colour, 0 to 255: 0 is grey. */
export function measureColour({ pixels }: Picture): number {
  let sum = 0;
  for (let i = 0; i < pixels.length; i += 4) {
    const [r, g, b] = pixels.subarray(i, i + 3);
    sum += Math.max(r, g, b) - Math.min(r, g, b);
  }
  return sum / (pixels.length / 4);
}

/** The mean step of luma between neighbours, to the right and down: many lines make it large. */
export function measureDetail({ pixels, width, height }: Picture): number {
  let sum = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = 4 * (y * width + x);
      if (x + 1 < width) sum += Math.abs(luma(pixels, i + 4) - luma(pixels, i));
      if (y + 1 < height) sum += Math.abs(luma(pixels, i + 4 * width) - luma(pixels, i));
    }
  }
  return sum / (height * (width - 1) + width * (height - 1));
}

/** How often coins agree at least as well as this: the chance that of `trials` fair coins at least
 * max(ups, trials − ups) show the same side (the sign test with two sides). */
export function coinChance(ups: number, trials: number): number {
  const most = Math.max(ups, trials - ups);
  let ways = 0;
  for (let k = most, choose = choices(trials, most); k <= trials; k++) {
    ways += choose;
    choose = (choose * (trials - k)) / (k + 1);
  }
  return Math.min((2 * ways) / 2 ** trials, 1);
}

function choices(n: number, k: number): number {
  let ways = 1;
  for (let i = 1; i <= k; i++) ways = (ways * (n - k + i)) / i;
  return ways;
}
