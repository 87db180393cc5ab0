import { beforeAll, expect, test } from "vitest";
import type { PythonWorker } from "../../src/engine/python.ts";
import type { MentorAnswer, ReaderError } from "../../src/engine/types.ts";
import { readGolden } from "./golden.ts";
import { startPython } from "./pythonTools.ts";
import { expectPace } from "../pace.ts";

type Place = { explorable: string; values: Record<string, number | string>; hint?: number };
interface Golden {
  answers: [string, Place, MentorAnswer][];
  exercises: Record<string, { solution: string; wrong: [string, string, string[]][] }>;
}

const golden = readGolden<Golden>("study");
let python: PythonWorker;
beforeAll(async () => {
  python = await startPython();
  await python.load();
}, 60_000);

test("the mentor answers in the tab as in a terminal, soon", async () => {
  const milliseconds: number[] = [];
  for (const [question, place, want] of golden.answers) {
    const begun = performance.now();
    const got = await python.ask(question, place);
    milliseconds.push(performance.now() - begun);
    expect(got, question).toMatchObject(want);
  }
  const [first, ...others] = milliseconds;
  others.sort((a, b) => a - b);
  expectPace("the mentor's first answer", first, 2000);
  expectPace("p95 of the others", others[Math.floor(0.95 * others.length)], 200);
}, 60_000);

test("every solution passes, every usual mistake is named with its own hint", async () => {
  for (const [name, { solution, wrong }] of Object.entries(golden.exercises)) {
    expect((await python.check(name, solution)).verdict.passed, name).toBe(true);
    for (const [source, tag, hints] of wrong) {
      const { verdict } = await python.check(name, source);
      expect([verdict.passed, verdict.tag], `${name}: ${tag}`).toEqual([false, tag]);
      expect(hints).toContain(verdict.hint);
    }
  }
}, 60_000);

test("an endless loop is ended, and the same Python goes on", async () => {
  const loop = "def cfg(a, b, s):\n    while True:\n        s += 1\n";
  const error = await python.check("cfg", loop, 0.5).catch((e: ReaderError) => e);
  expect(error).toMatchObject({ kind: "OutOfTime" });
  expect((error as ReaderError).line).toBeGreaterThanOrEqual(2);
  expect((await python.check("cfg", golden.exercises.cfg.solution)).verdict.passed).toBe(true);
}, 20_000);

test("an endpoint's words stay only where a place holds them", async () => {
  const question = "What is sigma?";
  const body = await python.call<{ messages: { content: string }[] }>("write_request", [question, "m", null]);
  expect(body.messages[1].content).toContain(question);
  const place = /\[1\] (.+)/.exec(body.messages[1].content)![1];
  const reply = (content: string) => JSON.stringify({ choices: [{ message: { content } }] });
  const said = (content: string) =>
    python.call<MentorAnswer>("word", [question, reply(content), "http://localhost/v1", null]);
  const kept = await said(`${place.split(". ")[0]} [1]. It was invented in 1987 by Picasso [1].`);
  expect(kept.citations).toHaveLength(1);
  expect(kept.answer).not.toContain("Picasso");
  expect((await said("Paris [1].")).note).toContain("no sentence");
  await expect(python.call("word", [question, "{}", "http://localhost/v1", null])).rejects.toThrow("no chat completion");
  expect(await python.call("write_request", ["What is the capital of France?", "m", null])).toBeNull();
});
