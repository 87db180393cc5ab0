/** Latents by channel: take one out, scale it, exchange it; and a small picture in their place. */
import type { Picture, Shape } from "../engine/types.ts";

/** What is done to the channels of latents: channel c of the result is factors[c] times channel
 * sources[c]. */
export interface Edit {
  sources: number[];
  factors: number[];
}

export function keepAll(channels: number): Edit {
  return { sources: Array.from({ length: channels }, (_, c) => c), factors: Array(channels).fill(1) };
}

export function scaleChannel(edit: Edit, channel: number, factor: number): Edit {
  return { ...edit, factors: edit.factors.map((now, c) => (c === channel ? factor : now)) };
}

/** Each of two channels takes the other's place. */
export function swapChannels({ sources, factors }: Edit, a: number, b: number): Edit {
  const swapped = sources.map((now, c) => (c === a ? sources[b] : c === b ? sources[a] : now));
  return { sources: swapped, factors };
}

export function applyEdit(latents: Float32Array, { sources, factors }: Edit): Float32Array {
  const size = latents.length / sources.length;
  const edited = new Float32Array(latents.length);
  sources.forEach((source, c) => {
    for (let i = 0; i < size; i++) edited[c * size + i] = factors[c] * latents[source * size + i];
  });
  return edited;
}

/** A view of one channel, (h, w). */
export function viewChannel(latents: Float32Array, { height, width }: Shape, channel: number): Float32Array {
  return latents.subarray(channel * height * width, (channel + 1) * height * width);
}

/** The means of a picture's pixels over equal squares, as if they were latents: red, green, blue,
 * red, … in [−1, 1]. The decoder was never shown such a thing. */
export function pretendLatents(picture: Picture, { channels, height, width }: Shape): Float32Array {
  const [down, across] = [picture.height / height, picture.width / width];
  const latents = new Float32Array(channels * height * width);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        let sum = 0;
        for (let v = y * down; v < (y + 1) * down; v++) {
          for (let u = x * across; u < (x + 1) * across; u++) {
            sum += picture.pixels[4 * (v * picture.width + u) + (c % 3)];
          }
        }
        latents[(c * height + y) * width + x] = sum / (down * across) / 127.5 - 1;
      }
    }
  }
  return latents;
}

/** Numbers as a grey picture: black at `low` and below it, white at `high` and above it. */
export function paintGrey(values: Float32Array, width: number, low: number, high: number): Picture {
  const pixels = new Uint8ClampedArray(4 * values.length).fill(255);
  values.forEach((value, i) => pixels.fill(((value - low) / (high - low)) * 255, 4 * i, 4 * i + 3));
  return { width, height: values.length / width, pixels };
}
