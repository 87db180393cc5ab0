import { expect, test } from "vitest";
import { computeCoefficients, NoiseSchedule, type PredictionType } from "../../src/lab/schedule.ts";
import { makeSigmas } from "../../src/lab/spacing.ts";
import { readGolden } from "./golden.ts";

const CLOSE = 1e-12; // relative: sums of the same float64 numbers, other libraries' exp and log

function expectClose(got: ArrayLike<number>, want: ArrayLike<number>, what: string, bound = CLOSE) {
  expect(got.length, what).toBe(want.length);
  for (let i = 0; i < want.length; i++) {
    const error = Math.abs(got[i] - want[i]);
    expect(error, `${what}, place ${i}: ${got[i]}`).toBeLessThanOrEqual(bound * Math.abs(want[i]));
  }
}

const schedule = NoiseSchedule.scaledLinear(0.00085, 0.02, 1000);

test("the schedule's tables equal Python's", () => {
  const golden = readGolden<{
    alpha_bar: number[];
    sigmas: number[];
    t_to_sigma: [number, number][];
    sigma_to_t: [number, number][];
    coefficients: [PredictionType, number, number, number, number][];
  }>("schedule");
  expectClose(schedule.alphaBar, golden.alpha_bar, "alpha_bar");
  expectClose(schedule.sigmas, golden.sigmas, "sigmas", 1e-11); // 1 − ᾱ loses digits near ᾱ = 1
  for (const [t, sigma] of golden.t_to_sigma) {
    expectClose([schedule.tToSigma(t)], [sigma], `sigma at ${t}`, 1e-11);
  }
  for (const [sigma, t] of golden.sigma_to_t) {
    expect(schedule.sigmaToT(sigma)).toBeCloseTo(t, 8); // of 999; 0 has no relative error
  }
  for (const [prediction, sigma, ...want] of golden.coefficients) {
    const c = computeCoefficients(prediction, sigma);
    expectClose([c.skip, c.out, c.in], want, `${prediction} at ${sigma}`);
  }
});

test("the levels of every spacing equal Python's", () => {
  const golden = readGolden<[string, number, boolean, number[]][]>("spacing");
  expect(new Set(golden.map(([name]) => name)).size).toBe(12);
  for (const [name, steps, discardPenultimate, want] of golden) {
    const got = makeSigmas(schedule, steps, name, { discardPenultimate });
    expectClose(got, want, `${name}, ${steps} steps`, 1e-10); // Newton's steps of beta end at 1e-14
  }
});

test("what cannot be spaced is refused with a remedy", () => {
  expect(() => makeSigmas(schedule, 0)).toThrow(/from 1/);
  expect(() => makeSigmas(schedule, 1001, "trailing")).toThrow(/1000/);
  expect(() => makeSigmas(schedule, 5, "none such")).toThrow(/Choose one of/);
  expect(() => makeSigmas(schedule, 5, "karras", { rho: 0 })).toThrow(/rho/);
  expect(() => schedule.tToSigma(999.5)).toThrow(/outside/);
});
