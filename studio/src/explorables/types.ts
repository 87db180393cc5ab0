import type { Component } from "svelte";
import type { Engine, Part, Python } from "../engine/types.ts";

/** A place in this project's source, as it stands in the built pages. */
export interface Place {
  path: string;
  line: number;
  text: string;
}

/** One thing that was computed, for the table under the explorable. */
export interface Ran {
  place: Place | null; // the file and line that ran; null for what the browser itself does
  what: string; // "U-Net, one call", "add noise"
  shape: string; // "(1, 16, 16, 16)"
  calls: number; // of a network
  milliseconds: number;
}

/** What an explorable is given by its frame. */
export interface Context {
  id: string;
  engine: Engine;
  python: Python;
  /** Whether the reader has locked a prediction: before that, controls are shown but nothing runs. */
  readonly locked: boolean;
  /** Announces the values of the controls: for the mentor and for the exported data. */
  values(now: Record<string, number | string>): void;
  /** Announces what ran. `key`: a later row with the same key takes its place. */
  ran(key: string, row: Ran): void;
  /** What "Save the data" writes. Called when the reader asks. */
  exports(make: () => unknown): void;
  /** Runs work with a busy sign, a cancel button and errors shown. Ends earlier work first, and
   * loads the entry's parts. Does nothing before the prediction is locked. The promise always
   * fulfils: a failure is shown by the frame. parts: what this work needs beside the entry's. */
  run(work: (signal: AbortSignal) => Promise<void>, parts?: readonly Part[]): Promise<void>;
  /** A source place by its name in places.json, "src/fromnoise/…/file.py:function". */
  place(reference: string): Place | null;
}

/** The texts of an explorable, from the chapter. */
export interface Texts {
  title: string;
  question: string;
  choices: string[];
  right: number; // of the choices, from 0
  run: string;
  compare: string;
  explain: string;
  check: string;
}

export interface Entry {
  load: () => Promise<{ default: Component<{ context: Context }> }>;
  needsModel: boolean;
  /** What its runs load at first, with a progress bar. Default: the parts that draw, if it needs the
   * model, else nothing. Name "python" where samplers run. */
  parts?: readonly Part[];
}
