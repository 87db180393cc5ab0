import { expect, test } from "vitest";
import { BrownianNoise, roundTime } from "../../src/lab/brownian.ts";
import { drawNoise, Generator } from "../../src/lab/random.ts";
import { readGolden, unpack } from "./golden.ts";

test("a generator gives the bits of torch.randn, call after call", () => {
  for (const [seed, draws] of Object.entries(readGolden<Record<string, [number, string][]>>("random"))) {
    const generator = new Generator(Number(seed));
    for (const [count, values] of draws) {
      expect(generator.drawNormal(count), `seed ${seed}, ${count} values`).toEqual(unpack(values));
    }
  }
});

test("the noise of a run and of its steps is that of diffusion/noise.py", () => {
  for (const [seed, draws] of Object.entries(readGolden<Record<string, string[]>>("noise"))) {
    const generator = new Generator(Number(seed));
    for (const values of draws) expect(generator.drawNormal(4096)).toEqual(unpack(values));
    expect(drawNoise(Number(seed), 4096)).toEqual(unpack(draws[0]));
  }
});

test("only the low 32 bits of a seed count, and a fraction is refused", () => {
  expect(drawNoise(2 ** 32 + 5, 16)).toEqual(drawNoise(5, 16));
  expect(() => new Generator(0.5)).toThrow(/integer/);
  expect(() => new Generator(-1)).toThrow(/integer/);
});

test("a Brownian path has the bits of diffusion/brownian.py", () => {
  const golden = readGolden<Record<string, [number, number, string][]>>("brownian");
  for (const [seed, steps] of Object.entries(golden)) {
    const path = new BrownianNoise(Number(seed), 40, 0.03, 12.5);
    for (const [sigma, next, values] of steps) {
      expect(path.draw(sigma, next), `seed ${seed}, ${sigma} to ${next}`).toEqual(unpack(values));
    }
  }
});

test("a Brownian path refuses levels outside of it and equal ones", () => {
  const path = new BrownianNoise(1, 4, 0.03, 12.5);
  expect(() => path.draw(13, 1)).toThrow(/no step/);
  expect(() => path.draw(1, 1 + 1e-9)).toThrow(/fewer steps/);
});

test("times round as in Python: a tie goes to the even neighbour", () => {
  expect(roundTime(0.0078125)).toBe(0.007812);
  expect(roundTime(0.0234375)).toBe(0.023438);
  expect(roundTime(1.23456749)).toBe(1.234567);
});
