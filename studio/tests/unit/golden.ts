/** Reads what tests/write_golden.py wrote. */

import { readFileSync } from "node:fs";

export const GENERATED = new URL("../../generated/", import.meta.url);

export function readGolden<T>(subject: string): T {
  const file = new URL(`golden/${subject}.json`, GENERATED);
  return JSON.parse(readFileSync(file, "utf8")) as T;
}

/** float32 values from base64. */
export function unpack(text: string): Float32Array {
  return new Float32Array(Uint8Array.from(Buffer.from(text, "base64")).buffer);
}
