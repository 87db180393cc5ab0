/** Exercises, quiz and mentor in the built site, in Chromium: `make site` comes first. */

import { existsSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import axeCore from "axe-core";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { Question } from "../../src/lab/review.ts";
import { readGolden } from "../unit/golden.ts";
import { expectPace } from "../pace.ts";
import { serve, type StaticServer } from "./server.ts";

const SITE = process.env.SITE ?? new URL("../../../src/fromnoise/learn/site/", import.meta.url).pathname;
const golden = readGolden<{
  answers: [string, { explorable?: string; hint?: number }, { answer: string; abstained: boolean }][];
  exercises: Record<string, { solution: string; wrong: [string, string, string[]][] }>;
}>("study");

let server: StaticServer;
let browser: Browser;
let context: BrowserContext;
let page: Page;
let foreign: string[]; // requests that left the site

beforeAll(async () => {
  if (!existsSync(join(SITE, "quiz.html"))) throw new Error(`${SITE} holds no site: run make site`);
  server = await serve({ "": SITE }, { prefix: "deep/site/" });
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  context = await browser.newContext();
  foreign = [];
  context.on("request", (request) => {
    if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(server.address)) foreign.push(request.url());
  });
  page = await context.newPage();
  page.on("dialog", (dialog) => void dialog.accept());
}, 60_000);

afterAll(async () => {
  await browser?.close();
  await server?.close();
});

beforeEach(() => void (foreign.length = 0));

async function visit(path: string): Promise<void> {
  await page.goto(server.address + path);
}

/** What axe finds in a part of the page. */
async function findFaults(part: string): Promise<string[]> {
  await page.evaluate(axeCore.source);
  return page.evaluate(async (selector) => {
    const { axe } = window as unknown as { axe: typeof axeCore };
    const { violations } = await axe.run(document.querySelector(selector)!);
    return violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(" ")}`);
  }, part);
}

// --------------------------------------------------------------------------------- exercises

const chapters: { chapter: string; url: string; title: string }[] = [];

/** The exercise's part of its chapter, with its editor open. */
async function openExercise(name: string): Promise<void> {
  if (!chapters.length) {
    const { chapters: rows } = JSON.parse(readFileSync(join(SITE, "content/quiz.json"), "utf8"));
    chapters.push(...rows.map((row: { id: string; url: string; title: string }) => ({ ...row, chapter: row.id })));
  }
  for (const { url } of chapters) {
    if (readFileSync(join(SITE, url), "utf8").includes(`id="exercise-${name}"`)) {
      await visit(`${url}#exercise-${name}`);
      await page.locator(`#exercise-${name} .cm-content`).waitFor();
      return;
    }
  }
  throw new Error(`no chapter has the exercise ${name}`);
}

/** Replaces the code, checks it, and returns the verdict's text. */
async function check(name: string, source: string, seconds = 20): Promise<string> {
  const exercise = page.locator(`#exercise-${name}`);
  await exercise.locator(".cm-content").focus();
  await page.keyboard.press("Control+a");
  await exercise.locator(".cm-content").evaluate((element, text) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", text);
    element.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
  }, source);
  await exercise.getByRole("button", { name: "Check", exact: true }).click();
  await exercise.locator(".verdict").waitFor({ timeout: 1000 * seconds });
  return exercise.locator(".verdict").innerText();
}

const plain = (text: string) => text.replaceAll("`", "");

test.each(Object.entries(golden.exercises))("%s: the solution passes, each mistake has its hint", async (name, { solution, wrong }) => {
  await openExercise(name);
  expect(await check(name, solution, 60)).toContain("✓ Right.");
  for (const [source, tag, hints] of wrong) {
    const said = await check(name, source);
    expect(said, tag).toContain("✗ Not yet.");
    expect(hints.some((hint) => said.includes(plain(hint))), `${tag}: ${said}`).toBe(true);
  }
}, 120_000);

const HOSTILE: [string, string, RegExp][] = [
  ["a loop that never ends", "while True:\n    pass", /did not end/],
  ["a loop that catches everything", "while True:\n    try:\n        while True: pass\n    except BaseException: pass", /did not end/],
  ["a loop without lines", "any(iter(int, 1))", /did not end/],
  ["huge output", "def cfg(a, b, s):\n    while True: print('x' * 1000)", /printed more than 100,000 characters/],
  ["fork", "import os\nos.fork()", /cannot import os/],
  ["a socket", "import socket\nsocket.create_connection(('127.0.0.1', 80))", /cannot import socket/],
  ["a file", "open('/fromnoise/tab.py', 'w').write('x')", /must not read files/],
  ["the page", "import js\njs.fetch('http://127.0.0.2:9/')", /cannot import js/],
  ["deep recursion", "def cfg(a, b, s): return cfg(a, b, s)", /RecursionError/],
  ["the end of Python", "raise SystemExit", /SystemExit/],
  ["another judge", "import math\nmath.isclose = lambda *a, **k: True\ndef cfg(a, b, s): return a", /Not yet/],
];

test.each(HOSTILE)("hostile code is contained: %s", async (_, source, says) => {
  await openExercise("cfg");
  expect(await check("cfg", source, 60)).toMatch(says);
  expect(await page.locator("#exercise-cfg pre").allInnerTexts().then((texts) => texts.join("").length)).toBeLessThan(3_000);
  // the page lives, and the next check is right
  expect(await check("cfg", golden.exercises.cfg.solution, 60)).toContain("✓ Right.");
  expect(foreign).toEqual([]);
}, 120_000);

test("code that climbs out of its names reaches no other origin", async () => {
  await openExercise("cfg");
  const climb = `js = print.__self__.__import__("js")
for url in ("http://127.0.0.2:9/a", "https://example.com/b"):
    try: js.fetch(url)
    except BaseException as error: print(error)
    try: js.eval(f"import('{url}')")
    except BaseException as error: print(error)
    try: js.WebSocket.new(url.replace("http", "ws"))
    except BaseException as error: print(error)
    try: js.importScripts(url)
    except BaseException as error: print(error)
`;
  await check("cfg", climb + golden.exercises.cfg.solution, 60);
  await page.waitForTimeout(500);
  expect(foreign).toEqual([]);
}, 60_000);

test("hints come one by one and before the solution; code is kept", async () => {
  await openExercise("kl");
  const exercise = page.locator("#exercise-kl");
  await check("kl", "def kl(mu, log_var): return 1.0", 60);
  await exercise.getByRole("button", { name: "Show a hint" }).click();
  await exercise.getByText("Hint 1 of 3").waitFor();
  await exercise.getByRole("button", { name: "Show the solution" }).click();
  await exercise.getByText("Hint 2 of 3").waitFor();
  expect(await exercise.getByText("The solution", { exact: true }).count()).toBe(0);
  await exercise.getByRole("button", { name: "Show the solution now" }).click();
  await exercise.getByText("The solution", { exact: true }).waitFor();
  expect(await findFaults(".exercise")).toEqual([]);
  await page.reload();
  await exercise.locator(".cm-content").waitFor();
  expect(await exercise.locator(".cm-content").innerText()).toContain("return 1.0");
}, 60_000);

// -------------------------------------------------------------------------------------- quiz

test("the quiz goes by keyboard alone, and never shows a wording twice in a row", async () => {
  const { questions } = JSON.parse(readFileSync(join(SITE, "content/quiz.json"), "utf8")) as { questions: Question[] };
  const byWording = new Map(questions.flatMap((q) => q.wordings.map((w) => [w, q] as const)));
  await visit("quiz.html");
  await page.evaluate(() => localStorage.clear());
  await page.reload();
  const quiz = page.locator("section.quiz");
  await quiz.waitFor();
  expect(await findFaults("body")).toEqual([]);
  for (let i = 0; i < 60 && !(await quiz.getByRole("button", { name: "Start", exact: true }).evaluate((e) => e === document.activeElement)); i++) {
    await page.keyboard.press("Tab");
  }
  await page.keyboard.press("Enter");
  const seen: string[] = [];
  for (let i = 0; i < 10; i++) {
    await quiz.getByText(`Question ${i + 1} of 10`).waitFor();
    const wording = await quiz.locator(".title").innerText();
    const question = byWording.get(wording)!;
    seen.push(question.id);
    const right = question.options.find((o) => o.right)!.text;
    const texts = await quiz.locator(".option .text").allInnerTexts();
    const wanted = i % 3 ? texts.indexOf(right) : (texts.indexOf(right) + 1) % 4;
    // by number, or by arrows from the first
    await page.keyboard.press(i % 2 ? String(wanted + 1) : "1");
    if (i % 2 === 0) for (let k = 0; k < wanted; k++) await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await quiz.getByRole("button", { name: i < 9 ? "Next question" : "See the result" }).waitFor();
    for (const option of question.options) await quiz.getByText(option.why).first().waitFor();
    expect(await quiz.getByRole("status").innerText()).toMatch(i % 3 ? /^Right\./ : /^No\./);
    const link = await quiz.getByRole("link", { name: /^Read: / }).getAttribute("href");
    const [file, anchor] = link!.split("#");
    expect(readFileSync(join(SITE, file), "utf8")).toContain(`id="${anchor}"`);
    if (i === 0) expect(await findFaults("body")).toEqual([]);
    await page.keyboard.press("Enter");
  }
  expect(new Set(seen).size).toBe(10);
  await quiz.getByText("6 of 10 right").waitFor();
  expect(await quiz.getByRole("listitem").count()).toBeGreaterThan(0);
  expect(foreign).toEqual([]);
}, 60_000);

test("progress is exported, refused where it is bad, and imported", async () => {
  await visit("quiz.html");
  const quiz = page.locator("section.quiz");
  const saved = page.waitForEvent("download");
  await quiz.getByRole("button", { name: "Export progress" }).click();
  const text = readFileSync(await (await saved).path(), "utf8");
  expect(Object.keys(JSON.parse(text).cards)).toHaveLength(10);
  const choose = (content: string) =>
    quiz.locator("input[type=file]").setInputFiles({ name: "p.json", mimeType: "application/json", buffer: Buffer.from(content) });
  await choose(text.replace(/"box": \d/, '"box": 99'));
  await quiz.getByRole("alert").getByText("box 99 cannot be").waitFor();
  await quiz.getByRole("button", { name: "Start over" }).click();
  await quiz.getByText(/\b0 of \d+ known/).waitFor();
  await choose(text);
  await quiz.getByText(/\b6 of \d+ known/).waitFor();
  expect(await page.evaluate(() => localStorage.getItem("fromnoise-quiz"))).toBe(text);
}, 30_000);

// ------------------------------------------------------------------------------------ mentor

async function ask(question: string): Promise<void> {
  const before = await page.locator(".turn .answer").count();
  await page.getByLabel("Your question").fill(question);
  await page.keyboard.press("Enter");
  await page.locator(".turn .answer").nth(before).waitFor({ timeout: 60_000 });
}

test("the mentor answers in time, and its citations open their places", async () => {
  await visit("mentor.html");
  await page.locator(".whole").waitFor();
  await page.waitForFunction(() => document.querySelector(".foot")?.textContent?.includes("Answers are found"), null, { timeout: 60_000 });
  const asked = golden.answers.filter(([, place]) => !place.explorable && !place.hint).filter((_, i) => i % 4 === 0);
  expect(asked.length).toBeGreaterThanOrEqual(50);
  for (const [question, , want] of asked) {
    await ask(question);
    const sentences = await page.locator(".turn").last().locator(".answer").innerText();
    for (const word of plain(want.answer).split(/\s+/)) expect(sentences).toContain(word);
    expect(await page.locator(".turn").last().getByRole("link").count() > 0).toBe(!want.abstained);
  }
  const [first, ...others] = await page.evaluate(() => performance.getEntriesByName("fromnoise mentor").map((e) => e.duration));
  others.sort((a, b) => a - b);
  const p95 = others[Math.floor(0.95 * others.length)];
  expectPace("the mentor's first answer", first, 2000);
  expectPace(`p95 of ${others.length} more answers`, p95, 200);
  const links = await page.locator(".turn a").evaluateAll((all) => [...new Set(all.map((a) => (a as HTMLAnchorElement).href))]);
  expect(links.length).toBeGreaterThan(50);
  const { questions } = JSON.parse(readFileSync(join(SITE, "content/quiz.json"), "utf8")) as { questions: Question[] };
  for (const link of links) {
    const { pathname, searchParams, hash } = new URL(link);
    const file = decodeURIComponent(pathname.slice("/deep/site/".length));
    if (file === "source.html") {
      const text = readFileSync(join(SITE, "sources", `${searchParams.get("path")}.txt`), "utf8");
      expect(text.split("\n").length).toBeGreaterThanOrEqual(Number(hash.slice(2)));
    } else if (file === "quiz.html") {
      expect(questions.map(({ id }) => id), link).toContain(searchParams.get("question"));
    } else {
      expect(readFileSync(join(SITE, file), "utf8"), link).toContain(`id="${hash.slice(1)}"`);
    }
  }
  expect(await findFaults("body")).toEqual([]);
  await page.locator(".places a[href*='quiz.html?question=']").first().click();
  await page.getByText(/^Question 1 of/).waitFor();
  expect(await page.locator(".question .title").innerText()).not.toBe("");
  expect(foreign).toEqual([]);
}, 180_000);

test("the panel of a chapter: by keyboard, with hints one by one, and it knows what is open", async () => {
  await visit("1-order-from-chaos.html#explore-destroy");
  await page.locator("#explore-destroy .frame").waitFor();
  await page.locator("#explore-destroy .frame input").first().focus();
  await page.getByRole("button", { name: "Ask the mentor" }).focus();
  await page.keyboard.press("Enter");
  const panel = page.getByRole("dialog", { name: "Mentor" });
  await panel.waitFor();
  await ask("What do I see here?");
  expect(await panel.locator(".answer").last().innerText()).toMatch(/“.+” is open/);
  await ask("I am stuck at the cfg exercise");
  expect(await panel.locator(".answer").last().innerText()).toContain("ask again for hint 2 of 3");
  await ask("another hint");
  expect(await panel.locator(".answer").last().innerText()).toContain("ask again for hint 3 of 3");
  expect(await findFaults(".panel")).toEqual([]);
  await page.keyboard.press("Escape");
  await panel.waitFor({ state: "hidden" });
}, 90_000);

test("an endpoint is asked only when it is switched on, and only on this machine", async () => {
  let reply = "";
  const bodies: string[] = [];
  const model: Server = createServer((request, response) => {
    response.setHeader("Access-Control-Allow-Origin", "*");
    response.setHeader("Access-Control-Allow-Headers", "*");
    if (request.method === "OPTIONS") return void response.end();
    let body = "";
    request.on("data", (part) => (body += part));
    request.on("end", () => {
      bodies.push(body);
      response.end(JSON.stringify({ choices: [{ message: { content: reply } }] }));
    });
  });
  await new Promise<void>((resolve) => model.listen(0, "127.0.0.1", resolve));
  const address = `http://127.0.0.1:${(model.address() as AddressInfo).port}/v1`;
  try {
    await visit("mentor.html");
    await page.evaluate(() => sessionStorage.clear());
    await page.reload();
    await ask("What is sigma?");
    expect(bodies).toEqual([]);
    await page.getByRole("button", { name: "Model: off" }).click();
    const dialog = page.getByRole("dialog", { name: "A language model of your own" });
    await dialog.getByLabel("Address").fill("https://example.com/v1");
    await dialog.getByLabel("Model", { exact: true }).fill("small");
    await dialog.getByRole("button", { name: "Switch on" }).click();
    await dialog.getByRole("alert").getByText("only a server on your own machine").waitFor();
    await dialog.getByLabel("Address").fill(address);
    expect(await findFaults("dialog[open]")).toEqual([]);
    await dialog.getByRole("button", { name: "Switch on" }).click();
    await page.getByRole("button", { name: "Model: on" }).waitFor();
    reply = "Paris [1].";
    await ask("What is sigma?");
    expect(JSON.parse(bodies[0]).model).toBe("small");
    await page.locator(".turn").last().getByText("no sentence of the endpoint's answer").waitFor();
    const place = /\[1\] ([^.]+\.)/.exec(JSON.parse(bodies[0]).messages[1].content)![1];
    reply = `${place} [1] It was invented in 1987 by Picasso [1].`;
    await ask("What is sigma?");
    const words = await page.locator(".turn .answer").last().innerText();
    expect(words).not.toContain("Picasso");
    expect(words).toContain(plain(place));
    // what the course does not say is not sent
    await ask("What is the capital of France?");
    expect(bodies).toHaveLength(2);
  } finally {
    model.close();
  }
}, 90_000);
