/** The explorable that the reader has before them, and the values of its controls: for the mentor. */

import { writable } from "svelte/store";

export interface Open {
  explorable: string; // its id
  title: string;
  values: Record<string, number | string>;
}

export const open = writable<Open | null>(null);
