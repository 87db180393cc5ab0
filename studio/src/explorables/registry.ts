import type { Entry } from "./types.ts";

/** id of the chapters → the file that is it. */
export const EXPLORABLES: Record<string, Entry> = {};
