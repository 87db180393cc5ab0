/** What the editor asks the server for. */

import { expect, test } from "vitest";
import {
  askExtend, askInpaint, askTwoPass, askVariations, carryOver, refuseRepeat, refuseVariations, writeSeed, writeWords,
} from "../../../src/app/edit/bodies.ts";

const WORDS = { prompt: "a cat", negative_prompt: "", steps: null, cfg: null, seed: "", count: 2 };
const HASH = "a".repeat(64);

test("settings are taken over, but not what belongs to the other picture", () => {
  const { words, more, notes } = carryOver({
    prompt: "p", negative_prompt: "n", steps: 9, cfg: 3, seed: 5, count: 4, width: 64, image: HASH, strength: 0.2, sampler: "euler",
    hires_scale: 2, extend_left: 8, addons: { loras: [{ name: "x", weight: 1 }], controls: [{ image: HASH }] }, preset: null,
  }, "model");
  expect(words).toEqual({ prompt: "p", negative_prompt: "n", steps: 9, cfg: 3, seed: "", count: 1 });
  expect(more).toEqual({ model: "model", sampler: "euler", addons: { loras: [{ name: "x", weight: 1 }] } });
  expect(notes).toEqual(["These look at pictures of their own and are left out: controls."]);
});

test("what is left to the model is not sent", () => {
  expect(writeWords(WORDS, {})).toEqual({ prompt: "a cat", count: 2 });
  expect(writeWords({ ...WORDS, cfg: 0, seed: "12" }, { preset: "fast" })).toEqual({ prompt: "a cat", count: 2, cfg: 0, seed: 12 });
});

test("a seed beyond what JavaScript counts stays exact", () => {
  expect(writeSeed("18446744073709551615")).toBe("18446744073709551615");
  expect(writeSeed("7")).toBe(7);
});

test("edits", () => {
  const inpaint = { strength: 0.5, content: "fill", mask_blur: 4, only_masked: false, padding: 32 };
  expect(askInpaint(WORDS, {}, "i", "m", inpaint).body).toEqual({ prompt: "a cat", count: 2, image: "i", mask: "m", strength: 0.5, content: "fill", mask_blur: 4, only_masked: false });
  expect(askExtend(WORDS, {}, "i", { left: 0, top: 8, right: 64, bottom: 0 }, 1, "fill", 4).body).toEqual({
    prompt: "a cat", count: 2, image: "i", strength: 1, content: "fill", mask_blur: 4, extend_top: 8, extend_right: 64,
  });
});

test("variations and two passes begin from the picture's own seed", () => {
  const drawn = { settings: { prompt: "p", seed: 3, count: 4 }, model: "m", seed: "6", index: 3 };
  const same = { prompt: "p", model: "m", seed: 6 };
  expect(askVariations("generate", drawn, 0.2, 4)).toEqual({ kind: "generate", body: { ...same, variation_strength: 0.2, count: 4 } });
  expect(askTwoPass(drawn, { scale: 2, strength: 0.5, upscaler: "" })).toEqual({ kind: "hires", body: { ...same, count: 1, hires_scale: 2, hires_strength: 0.5 } });
  const variation = { ...drawn, settings: { ...drawn.settings, variation_strength: 0.5, variation_seed: 9 } };
  expect(askTwoPass(variation, { scale: 2, strength: 0.4, upscaler: "latent" }).body).toMatchObject({ variation_strength: 0.5, variation_seed: 12, hires_strength: 0.4 });
  expect(refuseVariations("generate", variation.settings)).toMatch("already");
});

test("why a picture cannot be drawn again", () => {
  expect(refuseRepeat("generate", { prompt: "p" })).toBe("");
  expect(refuseRepeat("film", {})).toMatch("a frame of a film");
  expect(carryOver({ prompts: ["a", "b"] }, "m").words.prompt).toBe("a");
  expect(refuseRepeat("edit", {})).toMatch("another picture");
  expect(refuseRepeat(null, {})).toMatch("no longer knows");
  expect(refuseRepeat("generate", { addons: { controls: [{ image: HASH }] } })).toMatch("other pictures");
});
