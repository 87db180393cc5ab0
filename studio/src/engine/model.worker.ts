/** The worker that runs the model's graphs with ONNX Runtime: on WebGPU where there is an adapter
 * whose answer agrees with WebAssembly's, else on WebAssembly. */

import type * as Ort from "onnxruntime-web";
import { expand, readFile, readManifest, type FileEntry } from "./files.ts";
import { unpackWeights, type GraphPart, type Manifest } from "./manifest.ts";
import type { Backend, GraphName, ModelReply, ModelRequest, Values } from "./modelMessages.ts";

type Provider = Backend["name"];

const AGREEMENT = 0.02; // of the answer's size: how far WebGPU may be from WebAssembly

let root = "";
let backend: Backend | null = null;
let wanted: Provider | null = null; // what the next runtime is for
let reason = ""; // why it is not WebGPU
let checked = false; // whether WebGPU's answer was compared
let manifest: Promise<Manifest> | null = null;
const runtimes = new Map<Provider, Promise<typeof Ort>>();
const sessions = new Map<string, Promise<Ort.InferenceSession>>();
const cancelled = new Set<number>();
const channel = new MessageChannel();
let queue: Promise<unknown> = Promise.resolve(); // what uses the runtime, one after the other

self.onmessage = async ({ data }: MessageEvent<ModelRequest & { id: number }>) => {
  if (data.kind === "cancel") {
    for (const id of data.ids) cancelled.add(id);
    return;
  }
  const { id, part, graph } = data;
  try {
    if (data.kind === "load") {
      root = data.root;
      await openSession(part, graph); // files are read beside whatever runs
      return reply({ id, backend: backend! });
    }
    const session = await openSession(part, graph);
    await enqueue(async () => {
      if (cancelled.delete(id)) return;
      const begun = performance.now();
      const outputs = await run(session, data.inputs);
      const milliseconds = performance.now() - begun;
      const buffers = Object.values(outputs).map(({ data: values }) => values.buffer);
      reply({ id, outputs, milliseconds }, buffers);
      cancelled.delete(id);
    });
  } catch (error) {
    reply({ id, error: error instanceof Error ? error.message : String(error) });
  }
};

/** Waits for what runs, and lets the messages that wait be handled: a request that was cancelled
 * meanwhile does not run. */
function enqueue<T>(work: () => Promise<T>): Promise<T> {
  const result = queue.then(takeMessages).then(work);
  queue = result.catch(() => {});
  return result;
}

function reply(message: ModelReply, transfer: Transferable[] = []): void {
  self.postMessage(message, { transfer });
}

/** Lets the messages that wait be handled. */
function takeMessages(): Promise<void> {
  return new Promise((resolve) => {
    channel.port1.onmessage = () => resolve();
    channel.port2.postMessage(null);
  });
}

async function run(
  session: Ort.InferenceSession,
  inputs: Record<string, Values>,
): Promise<Record<string, Values>> {
  const { Tensor } = await startRuntime(wanted!);
  const feeds: Record<string, Ort.Tensor> = {};
  for (const [name, { data, shape }] of Object.entries(inputs)) {
    feeds[name] = data instanceof BigInt64Array
      ? new Tensor("int64", data, shape)
      : new Tensor("float32", data, shape);
  }
  const results = await session.run(feeds);
  const outputs: Record<string, Values> = {};
  for (const [name, tensor] of Object.entries(results)) {
    const data = Float32Array.from((await tensor.getData()) as Float32Array);
    outputs[name] = { data, shape: [...tensor.dims] };
    tensor.dispose();
  }
  return outputs;
}

function openSession(part: GraphPart, graph: GraphName): Promise<Ort.InferenceSession> {
  const key = `${part} ${graph}`;
  let session = sessions.get(key);
  if (!session) {
    session = createSession(part, graph);
    sessions.set(key, session);
    session.catch(() => sessions.delete(key)); // the next request tries again
  }
  return session;
}

interface Model {
  graph: Uint8Array;
  path: string;
  data: Uint8Array;
  inputs: Record<string, number[]>;
}

async function createSession(part: GraphPart, name: GraphName): Promise<Ort.InferenceSession> {
  manifest ??= readManifest<Manifest>(new URL("model/manifest.json", root).href);
  manifest.catch(() => (manifest = null));
  const entry = (await manifest).parts[part];
  const graph = entry.graphs[name];
  if (!graph) throw new Error(`The model has no graph "${name}" of ${part}. Build the site again.`);
  wanted ??= (await findAdapter()) ? "webgpu" : "wasm";
  let total = entry.pack.bytes + graph.bytes;
  let loaded = 0;
  const progress = (bytes: number) => {
    loaded += bytes;
    reply({ part, loaded, total });
  };
  // the first part's progress counts the runtime too
  const runtime = startRuntime(wanted, (size) => (total += size), progress);
  const read = async (file: FileEntry & { file: string }) =>
    expand(await readFile(new URL(`model/${file.file}`, root).href, file, progress));
  const [body, pack] = await Promise.all([read(graph), read(entry.pack), runtime]);
  const model: Model = {
    graph: new Uint8Array(body),
    path: entry.data.path,
    data: unpackWeights(pack, entry),
    inputs: graph.inputs,
  };
  return await enqueue(() =>
    wanted === "webgpu" && !checked ? checkAgreement(model) : build(model, wanted!, wanted!),
  );
}

/** Whether there is a graphics processor that WebGPU may use. */
async function findAdapter(): Promise<boolean> {
  const gpu = (navigator as { gpu?: { requestAdapter(): Promise<{ info?: { isFallbackAdapter?: boolean } } | null> } }).gpu;
  if (!gpu) reason = "this browser has no WebGPU";
  const adapter = await gpu?.requestAdapter().catch(() => null);
  if (gpu && !adapter) reason = "there is no graphics processor for WebGPU";
  if (adapter?.info?.isFallbackAdapter) {
    reason = "WebGPU would run on the processor, slower than WebAssembly";
    return false;
  }
  return Boolean(adapter);
}

function countThreads(provider: Provider): number {
  if (provider === "webgpu" || !self.crossOriginIsolated) return 1; // workers share no memory then
  return Math.min(Math.max(navigator.hardwareConcurrency || 2, 2), 4);
}

/** Reads and starts ONNX Runtime, once. announce: is told the size of its WebAssembly. */
function startRuntime(
  provider: Provider,
  announce: (bytes: number) => void = () => {},
  progress?: (bytes: number) => void,
): Promise<typeof Ort> {
  let runtime = runtimes.get(provider);
  if (!runtime) {
    runtime = readRuntime(provider, announce, progress);
    runtimes.set(provider, runtime);
    runtime.catch(() => runtimes.delete(provider));
  }
  return runtime;
}

async function readRuntime(
  provider: Provider,
  announce: (bytes: number) => void,
  progress?: (bytes: number) => void,
): Promise<typeof Ort> {
  const folder = new URL("runtimes/", root).href;
  const files = await readManifest<Record<string, FileEntry>>(folder + "manifest.json");
  const name = `ort-wasm-simd-threaded${provider === "webgpu" ? ".asyncify" : ""}`;
  const file = files[`${name}.wasm.packed`];
  announce(file.bytes);
  const [module, content] = await Promise.all([
    import(/* @vite-ignore */ `${folder}ort.${provider}.min.mjs`) as Promise<typeof Ort>,
    readFile(`${folder}${name}.wasm.packed`, file, progress),
  ]);
  module.env.logLevel = "error";
  module.env.wasm.numThreads = countThreads(provider);
  module.env.wasm.wasmPaths = { mjs: `${folder}${name}.mjs` };
  module.env.wasm.wasmBinary = await expand(content);
  return module;
}

/** A session of `provider`, in the runtime that was read for `home`. */
async function build(
  model: Model,
  provider: Provider,
  home: Provider,
): Promise<Ort.InferenceSession> {
  const { InferenceSession } = await startRuntime(home);
  const session = await InferenceSession.create(model.graph, {
    executionProviders: [provider],
    externalData: [{ path: model.path, data: model.data }],
    graphOptimizationLevel: "all",
    logSeverityLevel: 3, // errors alone
  });
  backend = { name: home, threads: countThreads(home), note: reason };
  return session;
}

/** The first session on WebGPU, once its answer was compared with WebAssembly's on the same input;
 * where they differ or it fails, WebAssembly takes over for good. */
async function checkAgreement(model: Model): Promise<Ort.InferenceSession> {
  try {
    const inputs = makeInputs(model.inputs);
    const session = await build(model, "webgpu", "webgpu");
    const ours = await run(session, inputs);
    const other = await build(model, "wasm", "webgpu");
    const theirs = await run(other, inputs);
    await other.release();
    if (compare(ours, theirs) <= AGREEMENT) {
      checked = true;
      return session;
    }
    await session.release();
    reason = "WebGPU gave other numbers than WebAssembly here";
  } catch (error) {
    reason = `WebGPU failed here (${error instanceof Error ? error.message : error})`;
  }
  wanted = "wasm";
  return await build(model, "wasm", "wasm");
}

/** Numbers that are neither zero nor alike, for one row of each input. */
function makeInputs(shapes: Record<string, number[]>): Record<string, Values> {
  const inputs: Record<string, Values> = {};
  for (const [name, dims] of Object.entries(shapes)) {
    const shape = dims.map((size) => Math.max(size, 1));
    const count = shape.reduce((a, b) => a * b, 1);
    const data = name === "ids"
      ? BigInt64Array.from({ length: count }, (_, i) => BigInt(i + 5))
      : Float32Array.from({ length: count }, (_, i) => Math.sin(i * 12.9898) * 1.4 + (name === "t" ? 500 : 0));
    inputs[name] = { data, shape };
  }
  return inputs;
}

/** The largest difference, as a share of the answer's root mean square. */
function compare(a: Record<string, Values>, b: Record<string, Values>): number {
  let worst = 0;
  for (const name of Object.keys(b)) {
    const [x, y] = [a[name].data as Float32Array, b[name].data as Float32Array];
    const size = Math.sqrt(y.reduce((sum, value) => sum + value * value, 0) / y.length);
    for (let i = 0; i < y.length; i++) {
      const error = Math.abs(x[i] - y[i]) / size;
      if (!(error <= worst)) worst = error; // NaN counts as worse
      if (Number.isNaN(worst)) return Infinity;
    }
  }
  return worst;
}
