import { expect } from "vitest";

/** Says a time beside its bar. The test falls at five times the bar: then something is broken, and
 * the machine is not merely slow or busy. */
export function expectPace(what: string, milliseconds: number, bar: number): void {
  console.info(`${what}: ${Math.round(milliseconds)} ms, the bar is ${bar} ms`);
  expect(milliseconds, what).toBeLessThan(5 * bar);
}
