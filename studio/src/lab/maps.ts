/** Maps of cross-attention: what a word got, by layer and by step. The same sums as
 * src/fromnoise/pipeline/inside/trace.py. */
import type { Prediction } from "../engine/types.ts";

export type Maps = NonNullable<Prediction["maps"]>;

/** (h, w) → (size, size), bilinear, as torch's interpolate with align_corners=False. */
export function resizeMap(map: ArrayLike<number>, side: number, size: number): Float32Array {
  const places = Array.from({ length: size }, (_, i) => {
    const at = Math.max(((i + 0.5) * side) / size - 0.5, 0);
    const low = Math.floor(at);
    return { low, high: Math.min(low + 1, side - 1), share: at - low };
  });
  const resized = new Float32Array(size * size);
  places.forEach((v, y) => {
    places.forEach((u, x) => {
      const top = map[v.low * side + u.low] * (1 - u.share) + map[v.low * side + u.high] * u.share;
      const low = map[v.high * side + u.low] * (1 - u.share) + map[v.high * side + u.high] * u.share;
      resized[y * size + x] = top * (1 - v.share) + low * v.share;
    });
  });
  return resized;
}

/** What the tokens at these places got in one layer: the mean of the heads, (h', w'). Square. */
export function readLayer(layer: Maps[string], tokens: number[]): Float32Array {
  const map = new Float32Array(layer.pixels);
  for (let head = 0; head < layer.heads; head++) {
    for (let pixel = 0; pixel < layer.pixels; pixel++) {
      const row = (head * layer.pixels + pixel) * layer.tokens;
      for (const token of tokens) map[pixel] += layer.data[row + token] / layer.heads;
    }
  }
  return map;
}

/** The mean over calls and layers, (size, size); layers: names, or all. */
export function readWord(
  calls: Maps[], tokens: number[], size: number, layers?: string[],
): Float32Array {
  const sum = new Float64Array(size * size);
  let count = 0;
  for (const maps of calls) {
    for (const name of layers ?? Object.keys(maps)) {
      const map = readLayer(maps[name], tokens);
      const resized = resizeMap(map, Math.round(Math.sqrt(map.length)), size);
      for (let i = 0; i < sum.length; i++) sum[i] += resized[i];
      count++;
    }
  }
  return Float32Array.from(sum, (value) => value / count);
}

/** Where a map lies more than `level` of the way from its least to its most. 0.6 is the level at
 * which the maps of objects fit their outlines best (src/fromnoise/evaluate/word_maps.py, INSIDE). */
export function findArea(map: Float32Array, level = 0.6): boolean[] {
  const low = map.reduce((a, b) => Math.min(a, b));
  const high = map.reduce((a, b) => Math.max(a, b));
  return Array.from(map, (value) => value > low + level * (high - low));
}

/** The middle of an area, in shares of the side: 0.5 is the middle of the picture. */
export function findCentre(area: boolean[]): { x: number; y: number } {
  const size = Math.sqrt(area.length);
  let [x, y, count] = [0, 0, 0];
  area.forEach((is, i) => {
    if (!is) return;
    x += (i % size) + 0.5;
    y += Math.floor(i / size) + 0.5;
    count++;
  });
  return count ? { x: x / count / size, y: y / count / size } : { x: 0.5, y: 0.5 };
}

/** "up_blocks.0.attentions.1.transformer_blocks.0.attn2" → "up 0.1": block and place in it. */
export function shortenLayer(name: string): string {
  const [block, place] = name.match(/\d+/g) ?? [];
  return name.startsWith("mid") ? "middle" : `${name.split("_")[0]} ${block}.${place}`;
}

/** A word of a prompt and the places of its tokens in the context. */
export interface Word {
  text: string;
  tokens: number[];
}

const WORDS = /'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu; // as CLIP cuts a text

/** The words of a prompt. pieces: the text of every token of the context; the first one is the start. */
export function groupTokens(prompt: string, pieces: string[]): Word[] {
  const words: Word[] = [];
  let at = 1;
  for (const [text] of prompt.normalize("NFC").toLowerCase().matchAll(WORDS)) {
    const word: Word = { text, tokens: [] };
    for (let spelled = ""; spelled.length < text.length && at < pieces.length - 1; at++) {
      spelled += pieces[at];
      word.tokens.push(at);
    }
    if (word.tokens.length) words.push(word);
  }
  return words;
}

/** The prompt without its word number `index`, as groupTokens counts. */
export function removeWord(prompt: string, index: number): string {
  let k = 0;
  return prompt.normalize("NFC").replace(new RegExp(WORDS, "giu"), (word) => (k++ === index ? "" : word))
    .replace(/\s+/g, " ").trim();
}
