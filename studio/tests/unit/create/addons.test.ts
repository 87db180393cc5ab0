/** Names of add-ons, their short forms, and the words that they bring into a prompt. */

import { expect, test } from "vitest";
import { abbreviate, addWord, fieldOf, findFile, holds, nameFor, search, shorten, type AddonFile } from "../../../src/app/create/addons.ts";

const file = (name: string, kind = "lora"): AddonFile => ({ name, kind, bytes: 1, program: "fromnoise", thumbnail: null });

test("short names: without folder and ending; of a plain name the folder tells", () => {
  expect(shorten("lora/style/paper.v1.safetensors")).toBe("paper.v1");
  expect(shorten("embeddings/bad.pt")).toBe("bad");
  expect(shorten("paper")).toBe("paper");
  expect(shorten("controlnet/canny/diffusion_pytorch_model.safetensors")).toBe("canny");
  expect(shorten("model.safetensors")).toBe("model");
});

test("letters of a tile", () => {
  expect(abbreviate("lora/paper_cut-v1.safetensors")).toBe("PC");
  expect(abbreviate("ink.pt")).toBe("IN");
  expect(abbreviate("x")).toBe("X");
  expect(abbreviate("猫.safetensors")).toBe("猫");
  expect(abbreviate("--.pt")).toBe("?");
  expect(abbreviate("")).toBe("?");
});

test("a request has the short name, where one file alone has it", () => {
  const files = [file("lora/a/Ink.safetensors"), file("lora/b/ink.pt"), file("lora/paper.safetensors"), file("embeddings/glow.pt", "embedding")];
  expect(nameFor(files[0], files)).toBe("lora/a/Ink.safetensors");
  expect(nameFor(files[2], files)).toBe("paper");
  expect(findFile(files, "loras", "lora/b/ink.pt")).toBe(files[1]);
  expect(findFile(files, "loras", "PAPER")).toBe(files[2]);
  expect(findFile(files, "embeddings", "glow")).toBe(files[3]);
  expect(findFile(files, "loras", "glow")).toBeUndefined();
  expect(fieldOf("t2i-adapter")).toBe("controls");
  expect(fieldOf("vae")).toBeUndefined();
});

test("a search finds every word, in any order", () => {
  const files = [file("lora/style/paper cut.safetensors"), file("lora/ink.safetensors")];
  expect(search(files, " cut Paper ")).toEqual([files[0]]);
  expect(search(files, "")).toEqual(files);
  expect(search(files, "paper ink")).toEqual([]);
});

test("words come into the prompt once, and brackets in them are no emphasis", () => {
  expect(addWord("", "papercut")).toBe("papercut");
  expect(addWord("a cat, ", "papercut")).toBe("a cat, papercut");
  const prompt = addWord("a cat", "miku (vocaloid)");
  expect(prompt).toBe(String.raw`a cat, miku \(vocaloid\)`);
  expect(holds(prompt, "Miku (vocaloid)")).toBe(true);
  expect(holds("a cat", "dog")).toBe(false);
});
