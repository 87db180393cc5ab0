/** Numbers as colours: two signs around grey, or from nothing to much. */

import { interpolateInferno, interpolateRdBu, rgb, scaleLinear } from "d3";

/** red, green, blue, opacity: the stops of pipeline/inside/report.py */
const OVER = [[0, 0, 0, 0], [70, 10, 120, 90], [220, 50, 60, 150], [255, 170, 20, 190], [255, 250, 160, 215]];
const channels = [0, 1, 2, 3].map((k) => scaleLinear(OVER.map((_, i) => i / (OVER.length - 1)), OVER.map((stop) => stop[k])).clamp(true));

export type Way = "signs" | "amount" | "over";

export function findRange(rows: number[][]): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (const row of rows) for (const value of row) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return Number.isFinite(low) ? [low, high] : [0, 1];
}

/** Draws rows of numbers, a pixel each. low, high: what the scale begins and ends with. */
export function paint(canvas: HTMLCanvasElement, rows: number[][], way: Way, low: number, high: number): void {
  const [height, width] = [rows.length, rows[0]?.length ?? 0];
  if (!height || !width) return;
  [canvas.width, canvas.height] = [width, height];
  const image = new ImageData(width, height);
  const most = Math.max(Math.abs(low), Math.abs(high)) || 1;
  rows.forEach((row, y) =>
    row.forEach((value, x) => {
      const at = 4 * (y * width + x);
      const share = Math.min(Math.max((value - low) / Math.max(high - low, 1e-12), 0), 1);
      if (way === "over") {
        image.data.set(channels.map((channel) => channel(share)), at);
        return;
      }
      const colour = rgb(way === "signs" ? interpolateRdBu(0.5 - value / most / 2) : interpolateInferno(share));
      image.data.set([colour.r, colour.g, colour.b, 255], at);
    }),
  );
  canvas.getContext("2d")!.putImageData(image, 0, 0);
}
