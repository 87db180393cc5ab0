/** The bundled model in the tab: the network in one worker, the samplers' Python in another. */

import { drawNoise } from "../lab/random.ts";
import { computeCoefficients, NoiseSchedule } from "../lab/schedule.ts";
import { makeSigmas } from "../lab/spacing.ts";
import { readFile, readManifest } from "./files.ts";
import type { GraphPart, Manifest } from "./manifest.ts";
import type { Backend, GraphName, ModelReply, ModelRequest, Values } from "./modelMessages.ts";
import { createPython, type PythonWorker } from "./python.ts";
import { Tokenizer } from "./tokenizer.ts";
import type {
  Engine, GenerationRequest, Part, Picture, Prediction, Progress, Shape, Step,
} from "./types.ts";

const SYNTAX = /[()[\]\\<]|\bAND\b|\bBREAK\b/; // what makes a prompt more than words
const f32 = Math.fround;
const KEPT = 64; // texts whose contexts are remembered

interface Pending {
  resolve: (reply: ModelReply) => void;
  reject: (reason: unknown) => void;
}

/** What only the tab's engine knows besides the interface. */
export class TabEngine implements Engine {
  backend: Backend = { name: "wasm", threads: 1, note: "nothing is loaded yet" };
  readonly shape: Shape = { channels: 16, height: 16, width: 16 }; // checked against the manifest
  private manifest: Manifest | null = null;
  private words: Tokenizer | null = null;
  private table: NoiseSchedule | null = null;
  private opening: Promise<Manifest> | null = null;
  private worker: Worker | null = null;
  private readonly pending = new Map<number, Pending>();
  private nextId = 1;
  private readonly loads = new Map<string, Promise<void>>(); // by part and graph
  private readonly ready = new Set<string>();
  private readonly states = new Map<GraphPart, Progress>();
  private readonly watchers = new Set<(state: Progress) => void>();
  private readonly texts = new Map<string, Promise<TextStates>>();

  /** root: the address of the site's first folder. */
  constructor(
    private readonly root: string,
    private readonly python: PythonWorker,
    private readonly makeWorker: () => Worker,
  ) {}

  // what is known of the model

  async load(
    parts: Part[],
    progress?: (state: Progress) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const watch = (state: Progress) => parts.includes(state.part) && progress?.(state);
    for (const state of this.states.values()) watch(state);
    this.watchers.add(watch);
    try {
      const work = parts.map((part) =>
        part === "python" ? this.python.load(progress) : this.loadGraph(part, "plain"),
      );
      await abortable(Promise.all(work), signal);
    } finally {
      this.watchers.delete(watch);
    }
  }

  isLoaded(part: Part): boolean {
    return part === "python" ? this.python.isLoaded() : this.ready.has(`${part} plain`);
  }

  get schedule(): NoiseSchedule {
    if (!this.table) throw new Error(NOT_LOADED);
    return this.table;
  }

  get facts(): Manifest["model"] {
    if (!this.manifest) throw new Error(NOT_LOADED);
    return this.manifest.model;
  }

  get clipScale(): number {
    return this.facts.clipScale;
  }

  tokenize(text: string): { ids: number[]; words: string[] } {
    if (!this.words) throw new Error(NOT_LOADED);
    const { ids, words } = this.words.encode(text);
    return { ids, words };
  }

  noise(seed: number, count: number): Float32Array<ArrayBuffer> {
    return drawNoise(seed, count);
  }

  // the network's parts

  async encodeText(
    text: string,
    signal?: AbortSignal,
  ): Promise<{ context: Float32Array<ArrayBuffer>; pooled: Float32Array<ArrayBuffer> }> {
    const { context, pooled } = await this.readText(text, signal);
    return { context: context.slice(), pooled: pooled.slice() };
  }

  async embedText(text: string, signal?: AbortSignal): Promise<Float32Array<ArrayBuffer>> {
    return normalize((await this.readText(text, signal)).embeds);
  }

  async embedPicture(picture: Picture, signal?: AbortSignal): Promise<Float32Array<ArrayBuffer>> {
    const side = (await this.open()).model.towerSize;
    this.checkSize(picture, side, side, "the image tower");
    const inputs = { image: { data: toImage(picture), shape: [1, 3, side, side] } };
    const { outputs } = await this.runGraph("tower", "plain", inputs, signal);
    return normalize(outputs.embeds.data as Float32Array<ArrayBuffer>);
  }

  async predict(
    x: Float32Array,
    sigma: number,
    context: Float32Array,
    options: { maps?: boolean; signal?: AbortSignal } = {},
  ): Promise<Prediction> {
    const { x0s, milliseconds, maps } = await this.ask(x, sigma, [context], options);
    return { x0: x0s[0], milliseconds, maps };
  }

  async decode(latents: Float32Array, signal?: AbortSignal): Promise<Picture> {
    const { channels, height, width } = this.shape;
    this.checkLatents(latents);
    const inputs = {
      latents: { data: Float32Array.from(latents), shape: [1, channels, height, width] },
    };
    const { outputs } = await this.runGraph("decoder", "plain", inputs, signal);
    const { data, shape } = outputs.image;
    return toPicture(data as Float32Array, shape[3], shape[2]);
  }

  async encode(picture: Picture, signal?: AbortSignal): Promise<Float32Array<ArrayBuffer>> {
    const { factor } = (await this.open()).model;
    const [width, height] = [this.shape.width * factor, this.shape.height * factor];
    this.checkSize(picture, width, height, "the encoder");
    const inputs = { image: { data: toImage(picture), shape: [1, 3, height, width] } };
    const { outputs } = await this.runGraph("encoder", "plain", inputs, signal);
    return outputs.latents.data as Float32Array<ArrayBuffer>;
  }

  preview(latents: Float32Array): Picture {
    const { latentRgb } = this.facts;
    const { channels, height, width } = this.shape;
    const size = height * width;
    const pixels = new Uint8ClampedArray(4 * size).fill(255);
    for (let i = 0; i < size; i++) {
      for (let colour = 0; colour < 3; colour++) {
        let value = latentRgb[channels][colour];
        for (let c = 0; c < channels; c++) value += latents[c * size + i] * latentRgb[c][colour];
        pixels[4 * i + colour] = Math.trunc(value * 127.5 + 127.5);
      }
    }
    return { width, height, pixels };
  }

  // a whole picture

  async *generate(
    request: GenerationRequest,
    signal?: AbortSignal,
  ): AsyncGenerator<Step, Float32Array<ArrayBuffer>> {
    signal?.throwIfAborted();
    const begun = performance.now();
    const [{ model }] = await abortable(
      Promise.all([this.open(), this.load(["unet", "text", "python"])]), signal,
    );
    const negative = request.negativePrompt ?? "";
    for (const text of [request.prompt, negative]) this.checkPrompt(text);
    const { sampler, sigmas, entry } = await this.resolve(request);
    const cfg = request.cfg ?? model.defaults.cfg;
    const highest = request.cfgSigmaMax ?? model.defaults.cfg_sigma_max;
    if (!(cfg >= 0 && cfg <= 100)) throw new RangeError(`The guidance scale ${cfg} is not in 0 … 100.`);
    const always = entry?.uncond ?? false;
    const paired = cfg !== 1 || always;
    const contexts = [(await this.readText(request.prompt, signal)).context];
    if (paired) contexts.push((await this.readText(negative, signal)).context);

    const { channels, height, width } = this.shape;
    const count = channels * height * width;
    const unit = request.latents ?? this.noise(request.seed, count);
    this.checkLatents(unit);
    const scale = f32(computeCoefficients(model.prediction, sigmas[0]).in);
    const positive = sigmas.filter((sigma) => sigma > 0);
    const run = await this.python.begin({
      sampler,
      x: Float32Array.from(unit, (value) => value / scale),
      shape: [1, channels, height, width],
      sigmas,
      options: request.options,
      noise: entry?.brownian
        ? { kind: "brownian", seed: request.seed, count, low: Math.min(...positive), high: sigmas[0] }
        : { kind: "stream", seed: request.seed, count },
      signal,
      seconds: 30, // for the reader's own arithmetic; the network's time does not count
    });
    try {
      const total = sigmas.length - 1;
      let calls = 0;
      let maps: Prediction["maps"];
      for (;;) {
        const { x, sigma, step } = run.question!;
        checkFinite(x, `the sampler, before step ${step + 1},`);
        const acts = cfg !== 1 && sigma <= highest;
        const shown = acts || always ? contexts : contexts.slice(0, 1);
        const answer = await this.ask(x as Float32Array<ArrayBuffer>, sigma, shown, {
          maps: request.maps, signal,
        });
        calls += 1;
        checkFinite(answer.x0s[0], `the network, at step ${step + 1},`);
        maps = answer.maps ?? maps;
        const [conditional, uncond] = answer.x0s;
        const x0 = acts ? mix(conditional, uncond, cfg) : conditional;
        await run.send(x0.slice(), always ? uncond : undefined);
        const next = run.question;
        if (next && next.step === step) continue;
        const level = next ? next.sigma : sigmas[total];
        let latest = (next ? next.x : run.x!) as Float32Array<ArrayBuffer>;
        if (!next) {
          const final = f32(computeCoefficients(model.prediction, level).in);
          latest = latest.map((value) => value * final);
          checkFinite(latest, "the sampler, in its last step,");
        }
        const milliseconds = performance.now() - begun;
        yield { index: step, total, sigma: level, x: latest.slice(), x0, calls, milliseconds, maps };
        signal?.throwIfAborted();
        if (!next) return latest;
      }
    } finally {
      run.drop();
    }
  }

  /** The sampler and the noise levels of a request, as pipeline/request.py decides them. */
  private async resolve(request: GenerationRequest) {
    const { defaults } = this.facts;
    const entries = await this.python.listEntries();
    const name = request.sampler ?? defaults.sampler;
    const entry = entries.find((one) => one.name === name);
    if (!entry && !request.code) {
      const names = entries.map((one) => one.name).join(", ");
      throw new RangeError(`There is no sampler "${name}". Choose one of: ${names}.`);
    }
    const own = request.code ? undefined : entry;
    const named = request.spacing ?? defaults.spacing;
    const spacing = named === "automatic" ? (own?.spacing ?? defaults.spacing) : named;
    const sigmas = request.sigmas ?? makeSigmas(this.schedule, request.steps ?? defaults.steps, spacing, {
      discardPenultimate: own?.discard_penultimate,
    });
    const sampler = request.code ?? { name };
    return { sampler, sigmas, entry: own };
  }

  /** x0 for each context, from one call of the network; x (channels, h, w) is the same for all. */
  private async ask(
    x: Float32Array,
    sigma: number,
    contexts: Float32Array[],
    { maps: wanted = false, signal }: { maps?: boolean; signal?: AbortSignal },
  ): Promise<{ x0s: Float32Array<ArrayBuffer>[]; milliseconds: number; maps?: Prediction["maps"] }> {
    const { model } = await this.open();
    this.checkLatents(x);
    const { channels, height, width } = this.shape;
    const c = computeCoefficients(model.prediction, sigma);
    const [skip, out, scale] = [f32(c.skip), f32(c.out), f32(c.in)];
    const rows = contexts.length;
    const count = x.length;
    const input = new Float32Array(rows * count);
    const context = new Float32Array(rows * contexts[0].length);
    for (let row = 0; row < rows; row++) {
      for (let i = 0; i < count; i++) input[row * count + i] = scale * x[i];
      context.set(contexts[row], row * contexts[0].length);
    }
    const t = new Float32Array(rows).fill(this.schedule.sigmaToT(sigma));
    const tokens = model.tokens.length;
    const { outputs, milliseconds } = await this.runGraph(
      "unet",
      wanted ? "maps" : "plain",
      {
        x: { data: input, shape: [rows, channels, height, width] },
        t: { data: t, shape: [rows] },
        context: { data: context, shape: [rows, tokens, contexts[0].length / tokens] },
      },
      signal,
    );
    const { prediction, ...layers } = outputs;
    const x0s = contexts.map((_, row) => {
      const x0 = new Float32Array(count);
      for (let i = 0; i < count; i++) {
        x0[i] = f32(skip * x[i]) + f32(out * (prediction.data[row * count + i] as number));
      }
      return x0;
    });
    return { x0s, milliseconds, maps: wanted ? readMaps(layers) : undefined };
  }

  private async readText(text: string, signal?: AbortSignal): Promise<TextStates> {
    let states = this.texts.get(text);
    if (!states) {
      states = this.computeText(text);
      states.catch(() => this.texts.delete(text));
      this.texts.set(text, states);
      if (this.texts.size > KEPT) this.texts.delete(this.texts.keys().next().value!);
    }
    return await abortable(states, signal);
  }

  private async computeText(text: string): Promise<TextStates> {
    await this.open();
    const { ids } = this.tokenize(text);
    const inputs = {
      ids: { data: BigInt64Array.from(ids, (id) => BigInt(id)), shape: [1, ids.length] },
    };
    const { outputs } = await this.runGraph("text", "plain", inputs);
    const take = (name: string) => outputs[name].data as Float32Array<ArrayBuffer>;
    return { context: take("context"), pooled: take("pooled"), embeds: take("embeds") };
  }

  // checks

  private checkPrompt(text: string): void {
    if (SYNTAX.test(text)) {
      throw new RangeError(
        "The tab's model reads plain words. Leave out brackets, backslashes, <, AND and BREAK; " +
          "the command `fromnoise generate` knows them.",
      );
    }
    if (!this.words!.encode(text).fits) {
      const most = this.facts.tokens.length - 2;
      throw new RangeError(`The prompt is longer than the ${most} tokens that the model reads. Shorten it.`);
    }
  }

  private checkLatents(latents: Float32Array): void {
    const { channels, height, width } = this.shape;
    if (latents.length !== channels * height * width) {
      throw new RangeError(
        `${latents.length} values are no latents. Give ${channels} × ${height} × ${width} of them.`,
      );
    }
  }

  private checkSize(picture: Picture, width: number, height: number, who: string): void {
    if (picture.width !== width || picture.height !== height) {
      throw new RangeError(
        `A picture of ${picture.width} × ${picture.height} does not fit ${who}. ` +
          `Draw it at ${width} × ${height} first.`,
      );
    }
  }

  // the worker

  /** Reads the manifest and the tokenizer. */
  private open(): Promise<Manifest> {
    this.opening ??= this.readModel();
    this.opening.catch(() => (this.opening = null));
    return this.opening;
  }

  private async readModel(): Promise<Manifest> {
    const folder = new URL("model/", this.root).href;
    const manifest = await readManifest<Manifest>(folder + "manifest.json");
    if (manifest.version !== 1) {
      throw new Error("The site's model is packed in a way that its pages do not know. Build the site again.");
    }
    const { tokenizer, model } = manifest;
    const read = async ({ file, ...entry }: { file: string; bytes: number; sha256: string }) =>
      new TextDecoder().decode(await readFile(folder + file, entry));
    const [vocabulary, merges] = await Promise.all([
      read(tokenizer["vocab.json"]), read(tokenizer["merges.txt"]),
    ]);
    const { channels, height, width } = this.shape;
    if (model.latents.join() !== [channels, height, width].join()) {
      throw new Error("The site's model is not the one that its pages were made for. Build the site again.");
    }
    this.words = new Tokenizer(JSON.parse(vocabulary), merges, model.tokens.length);
    this.table = new NoiseSchedule(model.alphaBars);
    this.manifest = manifest;
    return manifest;
  }

  private loadGraph(part: GraphPart, graph: GraphName): Promise<void> {
    const key = `${part} ${graph}`;
    let load = this.loads.get(key);
    if (!load) {
      load = this.open()
        .then(() => this.post({ kind: "load", root: this.root, part, graph }))
        .then((reply) => {
          this.backend = (reply as { backend: Backend }).backend;
          this.ready.add(key);
        });
      load.catch(() => this.loads.delete(key)).finally(() => this.states.delete(part));
      this.loads.set(key, load);
    }
    return load;
  }

  private async runGraph(
    part: GraphPart,
    graph: GraphName,
    inputs: Record<string, Values>,
    signal?: AbortSignal,
  ): Promise<{ outputs: Record<string, Values>; milliseconds: number }> {
    await abortable(this.loadGraph(part, graph), signal);
    const reply = await this.post({ kind: "run", part, graph, inputs }, signal);
    return reply as { outputs: Record<string, Values>; milliseconds: number };
  }

  private post(request: ModelRequest, signal?: AbortSignal): Promise<ModelReply> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const id = this.nextId++;
      const worker = (this.worker ??= this.startWorker());
      // A step that runs cannot be stopped: the page goes on at once, and its answer is dropped.
      const abort = () => {
        this.pending.delete(id);
        worker.postMessage({ id: 0, kind: "cancel", ids: [id] });
        reject(signal!.reason);
      };
      const forget = () => signal?.removeEventListener("abort", abort);
      signal?.addEventListener("abort", abort);
      this.pending.set(id, {
        resolve: (reply) => (forget(), resolve(reply)),
        reject: (reason) => (forget(), reject(reason)),
      });
      worker.postMessage({ id, ...request });
    });
  }

  private startWorker(): Worker {
    const worker = this.makeWorker();
    worker.onmessage = ({ data }: MessageEvent<ModelReply>) => {
      if (!("id" in data)) {
        this.states.set(data.part, data);
        for (const watch of this.watchers) watch(data);
        return;
      }
      const entry = this.pending.get(data.id);
      this.pending.delete(data.id);
      if ("error" in data) entry?.reject(new Error(data.error));
      else entry?.resolve(data);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      const why = event.message || "it could not start";
      worker.terminate();
      if (this.worker !== worker) return;
      this.worker = null;
      this.loads.clear();
      this.ready.clear();
      for (const { reject } of this.pending.values()) {
        reject(new Error(`The model's worker stopped: ${why}. Try again, or reload the page.`));
      }
      this.pending.clear();
    };
    return worker;
  }
}

const NOT_LOADED = "The model is not loaded yet. Load a part of it first.";

interface TextStates {
  context: Float32Array<ArrayBuffer>;
  pooled: Float32Array<ArrayBuffer>;
  embeds: Float32Array<ArrayBuffer>;
}

/** The promise, or the signal's reason as soon as it is aborted. */
function abortable<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** x0_uncond + scale·(x0 − x0_uncond) with the rounding of torch.lerp (Ho & Salimans 2022, eq. 6). */
function mix(x0: Float32Array, uncond: Float32Array, scale: number): Float32Array<ArrayBuffer> {
  const weight = f32(scale);
  const rest = f32(1 - weight);
  return Float32Array.from(x0, (value, i) => {
    const difference = f32(value - uncond[i]);
    return weight < 0.5
      ? uncond[i] + f32(weight * difference)
      : value - f32(difference * rest);
  });
}

/** The maps of the first row, which is the prompt's. */
function readMaps(layers: Record<string, Values>): Prediction["maps"] {
  const maps: NonNullable<Prediction["maps"]> = {};
  for (const [name, { data, shape }] of Object.entries(layers)) {
    const [, heads, pixels, tokens] = shape;
    const first = (data as Float32Array).slice(0, heads * pixels * tokens);
    maps[name] = { data: first, heads, pixels, tokens };
  }
  return maps;
}

function normalize(vector: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}

/** A picture → (3, H, W) in [−1, 1]. What is transparent lies on white. */
function toImage({ width, height, pixels }: Picture): Float32Array<ArrayBuffer> {
  const size = width * height;
  const image = new Float32Array(3 * size);
  for (let i = 0; i < size; i++) {
    const alpha = pixels[4 * i + 3] / 255;
    for (let colour = 0; colour < 3; colour++) {
      const value = alpha === 1 ? pixels[4 * i + colour] : pixels[4 * i + colour] * alpha + 255 * (1 - alpha);
      image[colour * size + i] = value / 127.5 - 1;
    }
  }
  return image;
}

/** An image (3, H, W) in [−1, 1] → a picture, clipped and rounded to 8 bits. */
function toPicture(image: Float32Array, width: number, height: number): Picture {
  const size = width * height;
  const pixels = new Uint8ClampedArray(4 * size).fill(255); // it rounds half to even, and clips
  for (let i = 0; i < size; i++) {
    for (let colour = 0; colour < 3; colour++) {
      pixels[4 * i + colour] = f32(f32(image[colour * size + i] * 127.5) + 127.5);
    }
  }
  return { width, height, pixels };
}

function checkFinite(values: ArrayLike<number>, who: string): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) {
      throw new Error(`${who[0].toUpperCase()}${who.slice(1)} gave a value that is not a number. Check the levels and the code.`);
    }
  }
}

/** The engine of the site whose first folder is `root`. Nothing loads before it is needed. */
export function createEngine(root: string, python = createPython(root)): TabEngine {
  return new TabEngine(
    root,
    python,
    () => new Worker(new URL("./model.worker.ts", import.meta.url), { type: "module" }),
  );
}
