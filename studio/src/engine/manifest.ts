/** generated/model/manifest.json, as studio/build/export_model.py writes it. */

import type { FileEntry } from "./files.ts";
import type { PredictionType } from "../lab/schedule.ts";

export type GraphPart = "unet" | "text" | "decoder" | "encoder" | "tower";

export interface NamedFile extends FileEntry {
  file: string;
}

export interface Graph extends NamedFile {
  inputs: Record<string, number[]>; // name → shape; -1: the batch
  outputs: Record<string, number[]>;
}

export interface PartEntry {
  graphs: { plain: Graph; maps?: Graph };
  pack: NamedFile & { unpacked: number };
  data: { path: string; bytes: number };
  tensors: { name: string; shape: number[]; offset: number; step: number }[];
}

export interface Manifest {
  version: number;
  model: {
    prediction: PredictionType;
    alphaBars: number[];
    latents: [number, number, number];
    factor: number;
    latentRgb: number[][]; // (C + 1, 3): RGB in [−1, 1] of C channels and a 1
    defaults: { sampler: string; spacing: string; steps: number; cfg: number; cfg_sigma_max: number };
    words: string[];
    tokens: { length: number; begin: number; end: number; padding: number };
    clipScale: number;
    towerSize: number;
  };
  tokenizer: { "vocab.json": NamedFile; "merges.txt": NamedFile };
  parts: Record<GraphPart, PartEntry>;
}

/** The weights of a part as ONNX Runtime takes them: float32, one tensor after the other. `content`:
 * the pack after gzip. */
export function unpackWeights(content: ArrayBuffer, entry: PartEntry): Uint8Array<ArrayBuffer> {
  const count = (shape: number[]) => shape.reduce((product, size) => product * size, 1);
  const n = entry.tensors.reduce((sum, { step, shape }) => sum + (step ? count(shape) : 0), 0);
  const high = new Uint8Array(content, 0, n);
  const low = new Uint8Array(content, n, n);
  const raw = new Uint8Array(content, 2 * n);
  const data = new Uint8Array(entry.data.bytes);
  let place = 0; // of whole multiples of a step
  let rawPlace = 0; // in bytes
  for (const { shape, offset, step } of entry.tensors) {
    const size = count(shape);
    if (step) {
      const values = new Float32Array(data.buffer, offset, size);
      for (let i = 0; i < size; i++, place++) {
        values[i] = (256 * high[place] + low[place] - 32768) * step;
      }
    } else {
      data.set(raw.subarray(rawPlace, rawPlace + 4 * size), offset);
      rawPlace += 4 * size;
    }
  }
  return data;
}
