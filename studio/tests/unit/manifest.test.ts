import { expect, test } from "vitest";
import { unpackWeights, type PartEntry } from "../../src/engine/manifest.ts";

test("a pack gives back its weights: whole multiples of a step, and float32 as they are", () => {
  const tensors = [
    { name: "bias", shape: [2], offset: 0, step: 0 },
    { name: "weight", shape: [2, 2], offset: 8, step: 0.25 },
    { name: "scale", shape: [], offset: 24, step: 0 },
    { name: "last", shape: [1], offset: 28, step: 0.5 },
  ];
  const whole = [-3, 0, 300, -32768, 7].map((value) => value + 32768);
  const raw = new Float32Array([1.5, -2.5, 0.125]);
  const content = new Uint8Array([
    ...whole.map((value) => value >> 8), ...whole.map((value) => value & 255),
    ...new Uint8Array(raw.buffer),
  ]);
  const entry = { tensors, data: { path: "w", bytes: 32 } } as unknown as PartEntry;
  const weights = new Float32Array(unpackWeights(content.buffer, entry).buffer);
  expect([...weights]).toEqual([1.5, -2.5, -0.75, 0, 75, -8192, 0.125, 3.5]);
});
