/** What the explorables that draw share: calls of the model that report themselves. */
import type { GenerationRequest, Picture, Prediction, Step } from "../engine/types.ts";
import { NoiseSchedule } from "../lab/schedule.ts";
import { makeSigmas } from "../lab/spacing.ts";
import type { Context } from "./types.ts";

/** The picture of the chapters, and the noise that it starts from. */
export const PROMPT = "a neon cat in space";
export const SEED = 1;

/** The Python that each call of the tab's engine corresponds to. */
const PLACES = {
  text: "src/fromnoise/pipeline/conditioning/encode.py:encode_texts",
  predict: "src/fromnoise/pipeline/denoiser.py:make_denoiser",
  generate: "src/fromnoise/diffusion/samplers/dpmpp.py:dpmpp_2m", // the model's own sampler
  decode: "src/fromnoise/pipeline/images.py:decode_latents",
  encode: "src/fromnoise/pipeline/encoding.py:encode_picture",
  clip: "src/fromnoise/pipeline/seeing/clip.py:ClipEmbedder.cosines",
};

const decoded = new WeakMap<Float32Array, Picture>();

/** The noise levels that the bundled model visits by itself in so many steps, and 0 at the end. */
export function listLevels(steps: number): number[] {
  return makeSigmas(NoiseSchedule.scaledLinear(), steps, "karras");
}

/** What a run starts from: noise of so many values, as strong as x is at sigma. */
export function startNoise(noise: Float32Array, sigma: number): Float32Array {
  return noise.map((value) => value * Math.hypot(1, sigma));
}

/** x at sigma as the network is shown it, with variance 1: c_in · x. */
export function showNetwork(x: Float32Array, sigma: number): Float32Array {
  return x.map((value) => value / Math.hypot(1, sigma));
}

/** One piece of work of an explorable: its calls of the model add up in the table of what ran. */
export class Work {
  readonly context: Context;
  readonly signal: AbortSignal;
  readonly #sums = new Map<string, { calls: number; milliseconds: number }>();

  constructor(context: Context, signal: AbortSignal) {
    this.context = context;
    this.signal = signal;
  }

  report(what: string, reference: string, shape: string, calls: number, milliseconds: number): void {
    const sum = this.#sums.get(what) ?? { calls: 0, milliseconds: 0 };
    sum.calls += calls;
    sum.milliseconds += milliseconds;
    this.#sums.set(what, sum);
    this.context.ran(what, { place: this.context.place(reference), what, shape, ...sum });
  }

  async encodeText(text: string): Promise<Float32Array> {
    const start = performance.now();
    const { context } = await this.context.engine.encodeText(text, this.signal);
    this.report("text encoder", PLACES.text, "(1, 32, 192)", 1, performance.now() - start);
    return context;
  }

  async predict(x: Float32Array, sigma: number, text: Float32Array): Promise<Prediction> {
    const answer = await this.context.engine.predict(x, sigma, text, { signal: this.signal });
    this.report("U-Net, one look", PLACES.predict, this.#shape(1), 1, answer.milliseconds);
    return answer;
  }

  /** All steps of a run; `watch` sees each one as it is finished. */
  async generate(request: GenerationRequest, watch?: (step: Step) => void): Promise<Step[]> {
    const steps: Step[] = [];
    for await (const step of this.context.engine.generate(request, this.signal)) {
      const last = steps.at(-1);
      const [calls, time] = [step.calls - (last?.calls ?? 0), step.milliseconds - (last?.milliseconds ?? 0)];
      this.report("steps of the sampler", PLACES.generate, this.#shape(1), calls, time);
      steps.push(step);
      watch?.(step);
    }
    return steps;
  }

  async decode(latents: Float32Array): Promise<Picture> {
    let picture = decoded.get(latents);
    if (!picture) {
      const start = performance.now();
      picture = await this.context.engine.decode(latents, this.signal);
      decoded.set(latents, picture);
      this.report("decoder", PLACES.decode, `${this.#shape(1)} → (1, 3, ${picture.height}, ${picture.width})`,
        1, performance.now() - start);
    }
    return picture;
  }

  async encode(picture: Picture): Promise<Float32Array> {
    const start = performance.now();
    const latents = await this.context.engine.encode(picture, this.signal);
    this.report("encoder", PLACES.encode, `(1, 3, ${picture.height}, ${picture.width}) → ${this.#shape(1)}`,
      1, performance.now() - start);
    return latents;
  }

  async embedText(text: string): Promise<Float32Array> {
    const start = performance.now();
    const embedding = await this.context.engine.embedText(text, this.signal);
    this.report("text tower", PLACES.clip, "(1, 192)", 1, performance.now() - start);
    return embedding;
  }

  async embedPicture(picture: Picture): Promise<Float32Array> {
    const start = performance.now();
    const embedding = await this.context.engine.embedPicture(picture, this.signal);
    this.report("image tower", PLACES.clip, `(1, 3, ${picture.height}, ${picture.width}) → (1, 192)`,
      1, performance.now() - start);
    return embedding;
  }

  #shape(rows: number): string {
    const { channels, height, width } = this.context.engine.shape;
    return `(${rows}, ${channels}, ${height}, ${width})`;
  }
}

/** Decodes latents outside of a run, for what the reader looks at; remembered. */
async function look(context: Context, latents: Float32Array, signal: AbortSignal): Promise<Picture> {
  let picture = decoded.get(latents);
  if (!picture) decoded.set(latents, (picture = await context.engine.decode(latents, signal)));
  return picture;
}

/** Decodes latents where the reader rests: a slider that is dragged passes many. Gives what ends it. */
export function lookAtRest(
  context: Context, latents: Float32Array, show: (picture: Picture) => void, fail: (message: string) => void,
): () => void {
  const stop = new AbortController();
  const wait = setTimeout(async () => {
    try {
      const picture = await look(context, latents, stop.signal);
      if (!stop.signal.aborted) show(picture);
    } catch (error) {
      if (!stop.signal.aborted) fail((error as Error).message);
    }
  }, isDecoded(latents) ? 0 : 150);
  return () => {
    clearTimeout(wait);
    stop.abort();
  };
}

export function isDecoded(latents: Float32Array): boolean {
  return decoded.has(latents);
}

/** A result, and how long it took. */
export function time<T>(compute: () => T): { value: T; milliseconds: number } {
  const start = performance.now();
  const value = compute();
  return { value, milliseconds: performance.now() - start };
}

/** A number for the page: so many digits after the point, and a true minus sign. */
export function show(value: number, digits = 2): string {
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "–";
  return value.toFixed(digits).replace("-", "−");
}
