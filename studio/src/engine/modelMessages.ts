/** What the page and the model's worker say to each other. */

import type { GraphPart } from "./manifest.ts";

export type GraphName = "plain" | "maps";

/** A tensor on its way: float32 values, or ids. */
export interface Values {
  data: Float32Array<ArrayBuffer> | BigInt64Array<ArrayBuffer>;
  shape: number[];
}

export interface Backend {
  name: "webgpu" | "wasm";
  threads: number;
  note: string; // why it is not WebGPU, in words; "" where it is
}

export type ModelRequest =
  | { kind: "load"; root: string; part: GraphPart; graph: GraphName }
  | { kind: "run"; part: GraphPart; graph: GraphName; inputs: Record<string, Values> }
  | { kind: "cancel"; ids: number[] };

export type ModelReply =
  | { id: number; outputs: Record<string, Values>; milliseconds: number }
  | { id: number; backend: Backend }
  | { id: number; error: string }
  | { part: GraphPart; loaded: number; total: number };
