/** Axes of a grid: the ranges and quotes of `fromnoise grid`, and errors that say what to write. */

import { expect, test } from "vitest";
import { AXES, describeAxis, parseAxis, splitValues } from "../../../src/app/edit/axes.ts";

const values = (id: string, text: string, field = id) => parseAxis(id, text, "a cat and a catfish").map((one) => one.apply({ prompt: "a cat and a catfish" })[field]);

test("numbers and ranges, never past the end", () => {
  expect(values("steps", "4, 8,20")).toEqual([4, 8, 20]);
  expect(values("seed", "1-4")).toEqual([1, 2, 3, 4]);
  expect(values("cfg", "1-7 (+2.5)")).toEqual([1, 3.5, 6]);
  expect(values("steps", "10-5 (-3)")).toEqual([10, 7]);
  expect(values("steps", "1-10 [5]")).toEqual([1, 3, 5, 7, 10]);
  expect(values("cfg", "0-1 [3]")).toEqual([0, 0.5, 1]);
  expect(values("cfg", "0.1-0.4 (+0.1)")).toEqual([0.1, 0.2, 0.3, 0.4]);
  expect(values("steps", "3-1")).toEqual([3, 2, 1]);
});

test("texts, quotes and words", () => {
  expect(splitValues('"a cat, ""red""", a dog,')).toEqual(['a cat, "red"', "a dog", ""]);
  expect(values("sampler", "euler, dpmpp_2m")).toEqual(["euler", "dpmpp_2m"]);
  expect(values("prompt:", "cat = dog, $&", "prompt")).toEqual(["a dog and a dogfish", "a $& and a $&fish"]);
  expect(parseAxis("size", "128, 192x128", "").map((one) => one.apply({}))).toEqual([{ width: 128, height: 128 }, { width: 192, height: 128 }]);
});

test("a setting of its own puts a preset aside", () => {
  expect(parseAxis("steps", "4", "")[0].apply({ preset: "fast", cfg: 2 })).toEqual({ cfg: 2, steps: 4 });
});

test("every example can be read", () => {
  for (const { id, example } of AXES) expect(parseAxis(id, example, "a cat").length, id).toBeGreaterThan(0);
});

test.each([
  ["steps", "four", /“four” is no number/], ["steps", "1.5", /no whole numbers/], ["steps", "1-5 (-1)", /never comes/],
  ["steps", "1-99999", /more than 400/], ["cfg", "1-2 [0]", /give 1 to/], ["prompt:", "dog=cat", /does not have “dog”/],
  ["prompt:", "cat", /what is replaced/], ["size", "big", /no size/], ["steps", " ", /give values/], ["prompt", '"a', /double quotes/], ["x", "1", /no axis/],
])("%s = %s is refused", (id, text, message) => {
  expect(() => parseAxis(id, text, "a cat")).toThrow(message);
});

test("an axis in settings: its name and its values as they are written", () => {
  expect(describeAxis("steps", " 2-4 (+2) ")).toEqual({ name: "steps", values: "2-4 (+2)" });
  expect(describeAxis("prompt:", "cat = dog, a=b")).toEqual({ name: "prompt:cat", values: "dog, a=b" });
});
