import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  answer, BadProgress, pick, readProgress, writeProgress,
  type Cards, type Question,
} from "../../src/lab/review.ts";

// written by tests/write_golden.py from src/fromnoise/learn/quiz/review.py
const golden = JSON.parse(readFileSync(new URL("../../generated/golden/review.json", import.meta.url), "utf8"));
const questions: Question[] = golden.questions;

function refusal(text: string): string {
  try {
    readProgress(text, questions);
    return "";
  } catch (error) {
    expect(error).toBeInstanceOf(BadProgress);
    return (error as Error).message;
  }
}

describe("reviews", () => {
  test("the same chance gives Python's questions, wordings and orders, and its file", () => {
    let [cards, last, drawn]: [Cards, string, number] = [new Map(), "", 0];
    const chance = () => golden.chance[drawn++];
    for (const turn of golden.turns) {
      const pool = questions.filter((q) => q.chapter === "latent-diffusion" && q.level < 3);
      const asked = pick(cards, turn.pool === pool.length ? pool : questions, turn.now, chance, last);
      expect(asked?.question.id ?? "").toBe(turn.id);
      if (!asked) continue;
      expect(asked.wording).toBe(turn.wording);
      expect(asked.options.map((option) => option.text)).toEqual(turn.options);
      cards = answer(cards, asked, asked.options[turn.choice], turn.now);
      last = turn.id;
    }
    expect(drawn).toBe(golden.chance.length);
    expect(writeProgress(cards)).toBe(golden.exported);
    expect(writeProgress(readProgress(golden.exported, questions))).toBe(golden.exported);
  });

  test("no wording is shown twice in a row, and no question either", () => {
    let [cards, last, now]: [Cards, string, number] = [new Map(), "", 1_800_000_000];
    for (let turn = 0; turn < 500; turn++) {
      const asked = pick(cards, questions, now, Math.random, last)!;
      if (asked) {
        expect(asked.question.id).not.toBe(last);
        expect(asked.wording).not.toBe(cards.get(asked.question.id)?.wording);
        last = asked.question.id;
        cards = answer(cards, asked, asked.options[0], now);
      }
      now += 3_600;
    }
  });

  test("the only question left is asked again, in other words", () => {
    const first = pick(new Map(), [questions[0]], 5, () => 0)!;
    const cards = answer(new Map(), first, first.options.find((o) => !o.right)!, 5);
    expect(pick(cards, [questions[0]], 6, () => 0, questions[0].id)).toBeNull(); // not due yet
    const again = pick(cards, [questions[0]], 5 + 600, () => 0, questions[0].id)!;
    expect(again.wording).not.toBe(first.wording);
  });
});

describe("import", () => {
  test.each(golden.imports as [string, string][])("as Python says it: %.90s", (text, message) => {
    // how JSON itself names its faults differs between the two languages, and so do None and null
    const ours = refusal(text);
    if (message.startsWith("the quiz progress is no JSON")) expect(ours).toBe("the quiz progress is no JSON");
    else expect(ours).toBe(message.replace("None", "null"));
  });

  test("cards of unknown questions are left out, whatever they hold", () => {
    const text = '{"format": "fromnoise-quiz", "version": 1, "cards": {"__proto__": 1, "gone": 2}}';
    expect(readProgress(text, questions).size).toBe(0);
  });
});
