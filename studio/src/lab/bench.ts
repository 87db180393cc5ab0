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

/** The colour of what an area shows: the mean red, green and blue of the pixels that are more than
 * half as bright as its brightest one. area: which of the pixels belong to it. */
export function findColour({ pixels }: Picture, area: boolean[]): number[] {
  const inside = area.flatMap((is, i) => (is ? [4 * i] : []));
  const most = inside.reduce((max, i) => Math.max(max, luma(pixels, i)), 0);
  const bright = inside.filter((i) => luma(pixels, i) >= most / 2);
  return [0, 1, 2].map((k) => bright.reduce((sum, i) => sum + pixels[i + k], 0) / bright.length);
}

const HUES: [number, string][] = [
  [20, "red"], [45, "orange"], [70, "yellow"], [165, "green"], [200, "cyan"], [255, "blue"],
  [290, "purple"], [335, "pink"], [360, "red"],
];

/** A plain name for a colour. */
export function nameColour([r, g, b]: number[]): string {
  const [most, least] = [Math.max(r, g, b), Math.min(r, g, b)];
  if (most < 50) return "black";
  if (most - least < 0.2 * most) return most > 170 ? "white" : "grey";
  const sixth = most === r ? ((g - b) / (most - least) + 6) % 6
    : most === g ? (b - r) / (most - least) + 2 : (r - g) / (most - least) + 4;
  return HUES.find(([end]) => 60 * sixth <= end)![1];
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
