/**
 * What the pages and the explorables ask of the tab's engine. All arrays are row-major float32.
 *
 * Latents are (16, h, w) as the U-Net sees them ("scaled"); x at noise level sigma is variance
 * exploding, x = x0 + sigma·n. A context is (32, 192), the text encoder's states of one prompt.
 */

import type { NoiseSpec } from "./pythonMessages.ts";

/** A part of the bundled model that is loaded on its own, when something first needs it. */
export type Part = "unet" | "text" | "decoder" | "encoder" | "tower" | "python";

export interface Progress {
  part: Part;
  loaded: number; // bytes
  total: number; // bytes
}

export interface Shape {
  channels: number;
  height: number;
  width: number;
}

/** One answer of the U-Net, turned into the clean picture that it stands for. */
export interface Prediction {
  x0: Float32Array; // (channels, h, w)
  milliseconds: number;
  /** Cross-attention, by layer name: (heads, h'·w', 32). Only where maps were asked for. */
  maps?: Record<string, { data: Float32Array; heads: number; pixels: number; tokens: number }>;
}

export interface GenerationRequest {
  prompt: string;
  negativePrompt?: string;
  seed: number;
  steps?: number; // default: the model's own
  sampler?: string; // a name of SAMPLERS; default: the model's own
  spacing?: string; // default: the model's own for the sampler
  sigmas?: number[]; // levels of one's own, in place of steps and spacing; the last one may be 0
  cfg?: number; // guidance scale; default: the model's own
  cfgSigmaMax?: number; // above this level no guidance acts; default: the model's own
  options?: Record<string, number>; // of the sampler: eta, s_noise, …
  code?: { source: string; function: string }; // a sampler of the reader's own, in place of `sampler`
  latents?: Float32Array; // unit noise in place of the seed's own
  maps?: boolean; // record cross-attention at every step
}

/** One finished step of a run. */
export interface Step {
  index: number; // 0 … total − 1
  total: number;
  sigma: number; // the level that x is at now
  x: Float32Array;
  x0: Float32Array;
  calls: number; // of the network, so far; a guided call counts as one call of two rows
  milliseconds: number; // since the run began
  maps?: Prediction["maps"];
}

export interface Picture {
  width: number;
  height: number;
  pixels: Uint8ClampedArray; // RGBA
}

/** The model of the tab. Every method loads what it needs. A signal that is aborted ends the work
 * at once: the promise rejects with an AbortError. */
export interface Engine {
  /** Loads parts ahead, with progress. */
  load(parts: Part[], progress?: (state: Progress) => void, signal?: AbortSignal): Promise<void>;
  isLoaded(part: Part): boolean;
  /** "webgpu" or "wasm", the number of threads, and why it is not WebGPU. Known after the first
   * load. */
  readonly backend: { name: string; threads: number; note: string };
  readonly shape: Shape; // of latents
  tokenize(text: string): { ids: number[]; words: string[] }; // words[i]: the text of token i
  encodeText(text: string, signal?: AbortSignal): Promise<{ context: Float32Array; pooled: Float32Array }>;
  /** Unit noise of a seed, the bits of torch.randn on a CPU generator. */
  noise(seed: number, count: number): Float32Array;
  /** E[x0 | x] at sigma for one prompt, without guidance. */
  predict(
    x: Float32Array, sigma: number, context: Float32Array,
    options?: { maps?: boolean; signal?: AbortSignal },
  ): Promise<Prediction>;
  generate(request: GenerationRequest, signal?: AbortSignal): AsyncGenerator<Step, Float32Array>;
  decode(latents: Float32Array, signal?: AbortSignal): Promise<Picture>;
  encode(picture: Picture, signal?: AbortSignal): Promise<Float32Array>; // the mean, scaled
  /** A fast linear preview of latents, in the latents' own size. */
  preview(latents: Float32Array): Picture;
  /** CLIP: unit vectors of 192 values. */
  embedText(text: string, signal?: AbortSignal): Promise<Float32Array>;
  embedPicture(picture: Picture, signal?: AbortSignal): Promise<Float32Array>;
  readonly clipScale: number; // exp(logit_scale): cosines times this are logits
}

export interface Verdict {
  passed: boolean;
  message: string;
  tag: string;
  hint: string;
}

export interface Citation {
  path: string;
  line: number;
  anchor: string;
  place: string;
  sentence: string;
  question?: string; // of the quiz: its id
}

export interface MentorAnswer {
  answer: string;
  citations: Citation[];
  abstained: boolean;
  exercise?: string; // the one that hints were given to
  note?: string; // why an endpoint's words were not taken
}

/** Python in a worker: this repository's own sampler files, exercises, quiz and mentor. */
/** What answers a sampler's question: x0. */
export type Answer =
  (x: Float64Array, sigma: number, step: number, stage: number) => Float64Array | Promise<Float64Array>;

export interface Python {
  load(progress?: (state: Progress) => void): Promise<void>;
  /** The sampler files that run on the stand-in for torch: names of SAMPLERS. */
  samplers(): Promise<string[]>;
  /** Runs a sampler (by name, or a source of the reader's own) on (count, size) values in float64.
   * `answer` gives x0; "mixture": the worker answers by the formula of src/lab/mixture.ts, which is much
   * quicker. `noise` gives unit noise between two levels, or says where it comes from. */
  sample(
    sampler: { name: string } | { source: string; function: string },
    x: Float64Array, sigmas: number[], answer: Answer | "mixture",
    options?: {
      noise?: NoiseSpec | ((sigma: number, sigmaNext: number) => Float64Array);
      options?: Record<string, number>;
      signal?: AbortSignal;
      seconds?: number; // after which code of the reader's own is ended
      rows?: number; // x is as many rows of equal size (1); dpm_adaptive chooses its steps for each
    },
  ): Promise<{ x: Float64Array; calls: number; milliseconds: number }>;
  /** Checks a reader's code. Ends it after `seconds`. */
  check(exercise: string, source: string, seconds?: number): Promise<{ verdict: Verdict; printed: string }>;
  ask(
    question: string,
    open?: { explorable: string; values: Record<string, number | string>; hint?: number },
  ): Promise<MentorAnswer>;
  /** Calls a function of studio/python/tab.py with values that JSON knows. */
  call<T>(name: string, args: unknown[], seconds?: number, signal?: AbortSignal): Promise<T>;
}

/** Code of the reader's own that failed: its message and the line of the source. */
export class ReaderError extends Error {
  constructor(message: string, readonly line: number | null, readonly kind: string) {
    super(message);
  }
}
