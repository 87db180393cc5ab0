import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { Tokenizer } from "../../src/engine/tokenizer.ts";
import { readGolden } from "./golden.ts";

const folder = new URL("../../../src/fromnoise/weights/tokenizer/", import.meta.url);
const tokenizer = new Tokenizer(
  JSON.parse(readFileSync(new URL("vocab.json", folder), "utf8")),
  readFileSync(new URL("merges.txt", folder), "utf8"),
  32,
);

test("ids equal those of Python's tokenizer, for any text", () => {
  const golden = readGolden<[string, number[], number[]][]>("tokenizer");
  expect(golden.length).toBeGreaterThan(1500);
  for (const [text, whole, words] of golden) {
    expect(tokenizer.encodeWords(text), JSON.stringify(text)).toEqual(words);
    expect(tokenizer.encode(text).ids, JSON.stringify(text)).toEqual(whole);
  }
});

test("each token has its text, and a text that does not fit says so", () => {
  const { ids, words, fits } = tokenizer.encode("a neon cat");
  expect(ids).toHaveLength(32);
  expect(words.join("|")).toMatch(/^<\|startoftext\|>\|a\|neon\|cat\|<\|endoftext\|>\|+$/);
  expect(fits).toBe(true);
  expect(tokenizer.encode("cat ".repeat(31)).fits).toBe(false);
  expect(tokenizer.encode("cat ".repeat(30)).fits).toBe(true);
});
