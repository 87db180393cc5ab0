/** Python in a worker: the repository's sampler files, exercises, quiz and mentor. */

import workerUrl from "./python.worker.ts?worker&url";
import { ReaderError } from "./types.ts";
import type { Answer, MentorAnswer, Progress, Python, Verdict } from "./types.ts";
import type { Fault, NoiseSpec, Numbers, Reply, Request, RunReply } from "./pythonMessages.ts";

/** The part of a Worker that is used; tests give another one. */
export interface WorkerLike {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  terminate(): void;
  onmessage: ((event: MessageEvent) => void) | null;
  onerror: ((event: ErrorEvent) => void) | null;
}

/** The metadata of a sampler, from SAMPLERS in src/fromnoise/diffusion/samplers/__init__.py. */
export interface SamplerEntry {
  name: string;
  label: string;
  module: string;
  function: string;
  order: number | null;
  evaluations: number | null;
  stochastic: boolean;
  options: string[];
  aliases: string[];
  preset: Record<string, unknown>;
  spacing: string;
  brownian: boolean;
  uncond: boolean;
  discard_penultimate: boolean;
  own_order: number | null;
  why: string;
}

/** A question of a sampler. */
export interface Question {
  x: Numbers;
  sigma: number;
  step: number;
  stage: number;
}

export interface RunSettings {
  sampler: { name: string } | { source: string; function: string };
  x: Numbers;
  shape: number[];
  sigmas: number[];
  options?: Record<string, number | string | boolean>;
  noise: NoiseSpec | ((sigma: number, sigmaNext: number) => Numbers);
  answers?: "page" | "mixture"; // who answers; of "mixture" only the last x comes back
  signal?: AbortSignal;
  seconds?: number; // that code of the reader's own may take, answers not counted
}

/** A sampler in the middle of its run: it has a question, or a last x. */
export interface SamplerRun {
  question: Question | null;
  x: Numbers | null;
  calls: number; // questions that the worker answered
  send(x0: Numbers, uncond?: Numbers): Promise<void>;
  drop(): void; // frees what the worker keeps of it
}

const READER_SECONDS = 5; // for code of the reader's own, where nothing else is said
const GRACE = 0.7; // seconds after which a worker that does not answer in time is ended

interface Pending {
  request: Request;
  seconds?: number;
  settle: { resolve: (value: unknown) => void; reject: (reason: unknown) => void } | null;
  timer?: ReturnType<typeof setTimeout>;
}

export class PythonWorker implements Python {
  private worker: WorkerLike | null = null;
  private loading: Promise<void> | null = null;
  private loaded = false;
  private readonly pending = new Map<number, Pending>();
  private readonly watchers = new Set<(state: Progress) => void>();
  private nextId = 1;
  private line: number | null = null; // of the reader's code, the last that was reported
  private entries: Promise<SamplerEntry[]> | null = null;

  /** makeWorker: starts python.worker.ts. root: the address of the site's first folder. */
  constructor(
    private readonly makeWorker: () => WorkerLike,
    private readonly root: string,
  ) {}

  isLoaded(): boolean {
    return this.loaded;
  }

  async load(progress?: (state: Progress) => void): Promise<void> {
    if (progress) this.watchers.add(progress);
    try {
      await this.start();
    } finally {
      if (progress) this.watchers.delete(progress);
    }
  }

  /** Calls a function of studio/python/tab.py ("ask"), or "module.function", with values that JSON
   * knows. Ends it after `seconds`: then a ReaderError has the line that ran. */
  async call<T>(name: string, args: unknown[], seconds?: number, signal?: AbortSignal): Promise<T> {
    await this.start();
    const request: Request = {
      kind: "call", function: name, arguments: JSON.stringify(args), seconds,
    };
    const { value } = await this.post<{ value: T }>(request, seconds, signal);
    return value;
  }

  /** The metadata of all samplers. */
  async listEntries(): Promise<SamplerEntry[]> {
    this.entries ??= this.call<SamplerEntry[]>("sampling.list_samplers", []);
    this.entries.catch(() => (this.entries = null));
    return this.entries;
  }

  async samplers(): Promise<string[]> {
    return (await this.listEntries()).map((entry) => entry.name);
  }

  /** Starts a sampler. The caller answers its questions until there is a last x. */
  async begin(settings: RunSettings): Promise<SamplerRun> {
    settings.signal?.throwIfAborted();
    await this.start();
    const { sampler, noise, signal } = settings;
    const own = "source" in sampler;
    const run = this.nextId++;
    let seconds = own ? (settings.seconds ?? READER_SECONDS) : undefined;
    const ask = async (request: Request): Promise<RunReply> => {
      const begun = performance.now();
      const reply = await this.post<RunReply>({ ...request, seconds } as Request, seconds, signal);
      if (seconds !== undefined) {
        seconds = Math.max(seconds - (performance.now() - begun) / 1000, 0.05);
      }
      if (!reply.steps || typeof noise !== "function") return reply;
      const noises = reply.steps.map(([s, t]) => noise(s, t));
      return ask({ kind: "supply", run, steps: reply.steps, noises });
    };
    const state: SamplerRun = {
      question: null,
      x: null,
      calls: 0,
      async send(x0, uncond) {
        read(await ask({ kind: "send", run, x0, uncond }));
      },
      drop: () => this.worker?.postMessage({ id: 0, kind: "drop", run }),
    };
    const read = ({ query, sigma, step, stage, x, calls = 0 }: RunReply) => {
      state.x = x ?? null;
      state.calls = calls;
      state.question = query
        ? { x: query, sigma: sigma!, step: step!, stage: stage! }
        : null;
    };
    const { x, shape, sigmas, options = {} } = settings;
    read(
      await ask({
        kind: "start",
        run,
        name: own ? undefined : sampler.name,
        source: own ? sampler.source : undefined,
        function: own ? sampler.function : "",
        x,
        shape,
        sigmas,
        options,
        noise: typeof noise === "function" ? { kind: "page" } : noise,
        answers: settings.answers,
      }),
    );
    return state;
  }

  async sample(
    sampler: { name: string } | { source: string; function: string },
    x: Float64Array,
    sigmas: number[],
    answer: Answer | "mixture",
    options: {
      noise?: NoiseSpec | ((sigma: number, sigmaNext: number) => Float64Array);
      options?: Record<string, number>;
      signal?: AbortSignal;
      seconds?: number;
      rows?: number; // x is as many rows of equal size; a sampler that chooses its steps does so for each
    } = {},
  ): Promise<{ x: Float64Array; calls: number; milliseconds: number }> {
    const begun = performance.now();
    const { rows = 1, noise } = options;
    const run = await this.begin({
      sampler,
      x: Float64Array.from(x),
      shape: [rows, x.length / rows],
      sigmas,
      options: options.options,
      noise: noise && typeof noise !== "function" ? noise : (s, t) => {
        if (noise) return Float64Array.from(noise(s, t));
        throw new Error("This sampler needs noise, and none was given.");
      },
      answers: answer === "mixture" ? answer : "page",
      signal: options.signal,
      seconds: options.seconds,
    });
    let { calls } = run;
    try {
      while (run.question && answer !== "mixture") {
        calls += 1;
        const { sigma, step, stage } = run.question;
        const x0 = await answer(Float64Array.from(run.question.x), sigma, step, stage);
        options.signal?.throwIfAborted();
        await run.send(Float64Array.from(x0), Float64Array.from(x0));
      }
    } finally {
      run.drop();
    }
    const milliseconds = performance.now() - begun;
    return { x: Float64Array.from(run.x!), calls, milliseconds };
  }

  async check(
    exercise: string,
    source: string,
    seconds = READER_SECONDS,
  ): Promise<{ verdict: Verdict; printed: string }> {
    return await this.call("check", [exercise, source], seconds);
  }

  async ask(
    question: string,
    open?: { explorable: string; values: Record<string, number | string>; hint?: number },
  ): Promise<MentorAnswer> {
    return await this.call("ask", [question, open ?? null]);
  }

  private start(): Promise<void> {
    this.loading ??= this.boot();
    return this.loading;
  }

  private async boot(): Promise<void> {
    const worker = this.makeWorker();
    this.worker = worker;
    worker.onmessage = ({ data }: MessageEvent<Reply>) => this.receive(data);
    worker.onerror = (event) => {
      const why = event.message || "it could not start";
      if (this.worker === worker) this.end(new Error(`Python's worker stopped: ${why}. Reload the page.`));
    };
    try {
      await this.post<null>({ kind: "load", root: this.root });
      this.loaded = true;
    } catch (error) {
      if (this.worker === worker) this.end(error);
      throw error;
    }
  }

  /** Sends a request; resolves with the worker's answer. */
  private post<T>(request: Request, seconds?: number, signal?: AbortSignal): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const id = this.nextId++;
      const abandon = () => {
        const entry = this.pending.get(id);
        if (!entry) return;
        entry.settle = null; // the answer that still comes is dropped
        reject(signal!.reason);
        if (entry.seconds !== undefined) {
          entry.seconds = 0; // endless code must not hold up what comes next
          clearTimeout(entry.timer);
          entry.timer = undefined;
          this.watchFirst();
        }
      };
      const forget = () => signal?.removeEventListener("abort", abandon);
      this.pending.set(id, {
        request,
        seconds,
        settle: {
          resolve: (value) => (forget(), resolve(value as T)),
          reject: (reason) => (forget(), reject(reason)),
        },
      });
      signal?.addEventListener("abort", abandon);
      this.worker!.postMessage({ id, ...request });
      this.watchFirst();
    });
  }

  private receive(reply: Reply): void {
    if ("progress" in reply) {
      for (const watch of this.watchers) watch({ part: "python", ...reply.progress });
      return;
    }
    if ("line" in reply) {
      this.line = reply.line;
      return;
    }
    const entry = this.pending.get(reply.id);
    if (!entry) return;
    if ("error" in reply && reply.error.kind === "Fatal") {
      const message = `Python failed and was started anew (${reply.error.message}).`;
      return this.end(new Error(message));
    }
    this.pending.delete(reply.id);
    clearTimeout(entry.timer);
    this.line = null;
    if ("error" in reply) entry.settle?.reject(makeError(reply.error));
    else entry.settle?.resolve(reply.value);
    this.watchFirst();
  }

  /** The worker does one thing after the other: only the first request's time runs. */
  private watchFirst(): void {
    const [entry] = this.pending.values();
    if (entry?.seconds === undefined || entry.timer !== undefined) return;
    entry.timer = setTimeout(() => {
      const message = "your code did not end in time, and was stopped. Is there an endless loop?";
      this.end(new ReaderError(message, this.line, "OutOfTime"));
    }, (entry.seconds + GRACE) * 1000);
  }

  /** Stops the worker; the first request gets the error. Calls behind it are asked again of a new
   * worker; other runs are lost with the old one. */
  private end(error: unknown): void {
    this.worker?.terminate();
    const [first, ...others] = this.pending.values();
    this.pending.clear();
    this.worker = null;
    this.loading = null;
    this.loaded = false;
    this.line = null;
    clearTimeout(first?.timer);
    first?.settle?.reject(error);
    for (const { request, seconds, settle } of others) {
      if (request.kind === "call" && settle) {
        this.start().then(() => this.post(request, seconds)).then(settle.resolve, settle.reject);
      } else {
        settle?.reject(new Error("Python was started anew. Run this again."));
      }
    }
  }
}

function makeError(fault: Fault): Error {
  if (fault.reader) return new ReaderError(fault.message, fault.line, fault.kind);
  return new Error(fault.message);
}

const started = new Map<string, PythonWorker>();

/** Python for the site whose first folder is `root`, one for all who ask. Nothing loads before it is
 * needed. */
/** start: how the worker begins, for a page where no code of a reader's runs. */
export function createPython(root: string, start = startWorker): PythonWorker {
  let python = started.get(root);
  if (!python) {
    python = new PythonWorker(start, root);
    started.set(root, python);
  }
  return python;
}

/** Starts the worker by way of a blob: such a worker has the page's own Content-Security-Policy. So
 * code of the reader's, which may climb out of Python, reaches no other origin and no `eval`. */
function startWorker(): Worker {
  const script = `import ${JSON.stringify(new URL(workerUrl, document.baseURI).href)};`;
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const worker = new Worker(address, { type: "module" });
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // after it was read
  return worker;
}

/** Starts the worker from its own file, under that file's policy: for the samplers of this program
 * alone, in a page whose policy admits neither blobs nor WebAssembly. */
export function startOwnWorker(): Worker {
  return new Worker(new URL(workerUrl, document.baseURI), { type: "module" });
}
