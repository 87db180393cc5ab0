/** What the page and the Python worker say to each other. */

export type Numbers = Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>;

/** Where a sampler's noise comes from: the page, a seed's stream after its first `count` values,
 * the seed's Brownian path between two levels, or nowhere: it is 0. */
export type NoiseSpec =
  | { kind: "page" }
  | { kind: "none"; count: number }
  | { kind: "stream"; seed: number; count: number }
  | { kind: "brownian"; seed: number; count: number; low: number; high: number };

export interface StartMessage {
  kind: "start";
  run: number;
  name?: string;
  source?: string;
  function: string;
  x: Numbers;
  shape: number[];
  sigmas: number[];
  options: Record<string, number | string | boolean>;
  noise: NoiseSpec;
  /** Who answers the questions: the page, or the worker by the formula of src/lab/mixture.ts. A message
   * for each question would take longer than the question. */
  answers?: "page" | "mixture";
  seconds?: number;
}

export type Request =
  | { kind: "load"; root: string }
  | { kind: "call"; function: string; arguments: string; seconds?: number }
  | StartMessage
  | { kind: "send"; run: number; x0: Numbers; uncond?: Numbers; seconds?: number }
  | { kind: "supply"; run: number; steps: number[][]; noises: Numbers[]; seconds?: number }
  | { kind: "drop"; run: number };

/** A sampler's next question, its last x, or the steps whose noise the page must give first. */
export interface RunReply {
  query?: Numbers;
  sigma?: number;
  step?: number;
  stage?: number;
  x?: Numbers;
  calls?: number; // questions that the worker answered
  steps?: number[][];
}

export interface Fault {
  message: string;
  line: number | null;
  kind: string;
  reader: boolean; // whether the reader's own code is at fault
}

export type Reply =
  | { id: number; value: unknown }
  | { id: number; error: Fault }
  | { progress: { loaded: number; total: number } }
  | { line: number };
