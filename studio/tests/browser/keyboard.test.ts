/** The built site by the keyboard alone: every explorable from the prediction to the check, every
 * exercise, the quiz and the mentor.
 *
 * SCREENSHOTS=folder also writes every explorable as it is at the end, at three widths, light and dark. */

import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium, type Browser, type Locator, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Keyboard } from "./keyboard.ts";
import { resize } from "./resize.ts";
import { serve, type StaticServer } from "./server.ts";

const SITE = process.env.SITE ?? new URL("../../../src/fromnoise/learn/site/", import.meta.url).pathname;
const CHAPTERS = readdirSync(SITE).filter((name) => /^[1-5]-.*\.html$/.test(name)).sort();
const MINUTES = 600_000; // for a machine that is busy with other things
const exercises: Record<string, { solution: string }> = JSON.parse(
  readFileSync(new URL("../../generated/content/exercises.json", import.meta.url), "utf8"));

let server: StaticServer;
let browser: Browser;

beforeAll(async () => {
  server = await serve({ "": SITE });
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
});

/** Opens a page, and mounts its parts by the first Tab. */
async function visit(name: string, viewport = { width: 1280, height: 900 }): Promise<{ page: Page; keys: Keyboard }> {
  const context = await browser.newContext({ viewport, reducedMotion: "reduce", serviceWorkers: "block" });
  const page = await context.newPage();
  const keys = await Keyboard.of(page);
  await page.goto(server.address + name);
  await page.keyboard.press("Tab");
  await page.waitForFunction(() =>
    [...document.querySelectorAll<HTMLElement>("[data-island]")].every((island) => island.dataset.mounted) &&
    !document.querySelector(".island > .card") &&
    ![...document.querySelectorAll(".stage")].some((stage) => stage.textContent!.includes("Loading the explorable")) &&
    document.querySelectorAll(".editor textarea").length === 0, undefined, { timeout: 60_000 });
  return { page, keys };
}

interface Desk {
  keys: Keyboard;
  frame: Locator;
  button(name: string): Locator;
  slider(name: string): Locator;
  /** Presses Enter on a button and waits for the end of what it starts. The focus stays. */
  run(name: string): Promise<void>;
}

/** What a reader does in each explorable, with every kind of control that it has. */
const WORK: Record<string, (desk: Desk) => Promise<void>> = {
  async destroy({ keys, frame, button, slider }) {
    await keys.reach(frame.getByRole("radio", { name: "unicorn" }));
    await keys.press("ArrowRight");
    await keys.reach(slider("timestep t"));
    await keys.press("PageUp", "ArrowRight");
    await frame.getByRole("img", { name: "the noisy picture at t = 101" }).waitFor();
    await keys.reach(button("Other noise"));
    await keys.press("Enter");
    await frame.getByText("seed 2").waitFor();
  },
  async "one-look"({ run }) {
    await run("Ask once");
  },
  async reconstruct({ keys, frame, button, slider, run }) {
    await keys.reach(slider("How many steps"));
    await keys.press("Home");
    await run("Draw it, step by step");
    await keys.reach(slider("Look at step"));
    await keys.press("ArrowLeft");
    await keys.reach(frame.getByRole("button", { name: "Show step 2" }));
    await keys.press("Enter");
    await keys.reach(button("Stop at step 2"));
    await keys.press("Enter");
    await frame.getByText("You stop after step 2 of 4").waitFor();
  },
  async "exact-field"({ keys, frame, slider, run }) {
    await keys.reach(frame.getByRole("application"));
    await keys.press("ArrowRight", "ArrowUp", "Enter", "Shift+ArrowLeft", "Space", "Space", "Backspace");
    await frame.getByRole("radio", { name: "my own points", checked: true }).waitFor();
    expect(await frame.locator("circle.point").count()).toBe(2);
    await keys.reach(slider("noise level"));
    await keys.press("ArrowLeft");
    await run("Let 40 particles follow");
  },
  async "latent-lab"({ keys, frame, button, slider, run }) {
    await run("Encode it");
    await keys.reach(button("Channel 3"));
    await keys.press("Space");
    await keys.reach(slider("Scale channel 3"));
    await keys.press("ArrowRight");
    await keys.reach(frame.getByRole("combobox"));
    await keys.press("ArrowDown");
    await keys.reach(button("Swap"));
    await keys.press("Enter");
    await frame.getByRole("img", { name: "decoded from changed latents" }).waitFor();
  },
  async "clip-matrix"({ keys, frame, button, slider, run }) {
    await keys.reach(frame.getByRole("textbox", { name: "Caption 4" }));
    await keys.press("Control+a");
    await keys.page.keyboard.type("a blue whale");
    await keys.reach(button("Add a caption"));
    await keys.press("Enter");
    await keys.reach(frame.getByRole("textbox", { name: "Caption 5" }), "Shift+Tab");
    await keys.page.keyboard.type("a boot");
    await run("Compare captions");
    await keys.reach(frame.getByRole("radio", { name: "each picture its caption" }));
    await keys.press("ArrowRight");
    await keys.reach(slider("Temperature"));
    await keys.press("ArrowRight");
    await run("flamingo");
    await keys.reach(frame.locator("input[type=file]"));
    await run("Draw and add");
  },
  async "word-lens"({ keys, frame, button, run }) {
    await run("Draw it and record");
    await keys.reach(button("cat"));
    await keys.press("Enter");
    await keys.reach(frame.getByRole("group", { name: "Layer" }).getByRole("radio").first());
    await keys.press("ArrowRight");
    await keys.reach(button("Step 2"));
    await keys.press("Enter");
    await run("Draw the same seed without");
  },
  async "guidance-plane"({ keys, frame, slider, run }) {
    await run("Ask with and without");
    await keys.reach(slider("Guidance scale"));
    await keys.press("PageUp");
    await keys.reach(slider("Noise level"));
    await keys.press("ArrowRight");
    await ended(frame);
    await frame.getByText("of its colour values").waitFor();
  },
  async "solver-race"({ keys, frame, run }) {
    await keys.reach(frame.getByRole("checkbox", { name: "DPM2" }));
    await keys.press("Space");
    await keys.reach(frame.getByRole("radio", { name: "fresh noise" }));
    await keys.press("ArrowRight");
    await run("Race");
    await frame.getByRole("row", { name: "DPM2 0.0" }).waitFor();
  },
  async schedules({ keys, frame, slider, run }) {
    await keys.reach(slider("steps"));
    await keys.press("Home");
    await keys.reach(slider("level 2 of 4"));
    await keys.press("ArrowRight", "Shift+ArrowLeft");
    await run("Draw on your levels");
    await frame.getByRole("img", { name: /drawn on your levels/ }).waitFor();
  },
  async "prompt-bench"({ keys, frame, run }) {
    await keys.reach(frame.getByRole("radio", { name: "more colourful" }));
    await keys.press("ArrowLeft");
    await run("Draw four seeds");
  },
  async "write-a-sampler"({ keys, frame, button, run }) {
    const editor = frame.locator(".cm-content");
    await keys.reach(editor);
    await keys.page.keyboard.type("# mine\n");
    await keys.press("Control+Enter");
    await frame.locator(".stage[aria-busy=true]").waitFor();
    await ended(frame);
    expect(await keys.has(editor)).toBe(true);
    await keys.press("Escape", "Tab");
    expect(await keys.has(editor)).toBe(false);
    await keys.reach(button("Back to euler.py"));
    await keys.press("Enter");
    await keys.reach(frame.getByText("A hint for Heun"));
    await keys.press("Enter");
    await run("Draw a picture with your code");
  },
  async "train-on-points"({ keys, frame, slider, run }) {
    await keys.reach(frame.getByRole("application"));
    await keys.press("Enter", "Shift+ArrowRight", "Enter");
    await keys.reach(slider("training steps"));
    await keys.press("Home");
    await run("Train");
  },
};

async function ended(frame: Locator): Promise<void> {
  await frame.page().waitForTimeout(250); // the busy sign comes after 120 ms
  await frame.locator(".stage[aria-busy=false]").waitFor({ timeout: 240_000 });
  expect(await frame.getByRole("alert").allInnerTexts()).toEqual([]);
}

test.each(CHAPTERS)("%s: every explorable, from the prediction to the check", async (name) => {
  const { page, keys } = await visit(name);
  for (const island of await page.locator("[data-island=explorable]").all()) {
    const id = (await island.getAttribute("data-id"))!;
    const frame = island.locator(".frame");
    const button = (label: string) => frame.getByRole("button", { name: label }).first();
    const desk: Desk = {
      keys, frame, button,
      slider: (label) => frame.getByRole("slider", { name: label }),
      async run(label) {
        await keys.reach(button(label));
        await keys.press("Enter");
        await ended(frame);
        expect(await keys.has(button(label)) || (await keys.has(frame.locator(".stage"))) || label === "flamingo", `${id}: the focus stays at ${label}`).toBe(true);
      },
    };
    await keys.reach(frame.getByRole("radio").first());
    await keys.press("Space", "ArrowDown", "ArrowUp", "Tab");
    expect(await keys.has(button("Lock my prediction")), id).toBe(true);
    await keys.press("Enter");
    await frame.getByText("Your prediction is locked.").waitFor();
    expect(await keys.has(frame.locator(".stage")), `${id}: the focus goes on to the experiment`).toBe(true);

    await WORK[id](desk);

    await keys.reach(button("Compare with my prediction"));
    await keys.press("Enter");
    expect(await keys.has(frame.locator(".verdict")), id).toBe(true);
    await keys.reach(frame.getByRole("checkbox", { name: "I have tried it" }));
    await keys.press("Space");
    await keys.reach(frame.locator("summary", { hasText: "What ran" }));
    await keys.press("Enter");
    await keys.reach(button("Save the data"));
    const [download] = await Promise.all([page.waitForEvent("download"), keys.press("Enter")]);
    expect(JSON.parse(readFileSync(await download.path(), "utf8")).explorable).toBe(id);

    expect(await keys.walk(frame), id).toEqual([]);
    await button("Save the data").focus(); // goes on to the next one
    expect(keys.faults, id).toEqual([]);
  }
  if (process.env.SCREENSHOTS) await photograph(page, process.env.SCREENSHOTS);
  await page.context().close();
}, MINUTES);

async function photograph(page: Page, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  await page.evaluate(() => { // what keeps its place would lie on the pictures
    document.querySelector<HTMLElement>(".top")!.style.position = "static";
    document.querySelector<HTMLElement>(".opener")!.hidden = true;
  });
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    for (const width of [375, 768, 1440]) {
      await resize(page, width);
      await page.waitForTimeout(300);
      for (const island of await page.locator("[data-island=explorable]").all()) {
        await island.screenshot({ path: join(folder, `${await island.getAttribute("data-id")}-${width}-${colorScheme}.png`) });
      }
    }
  }
}

test("cancelling: the focus goes to the experiment, not away", async () => {
  const { page, keys } = await visit(CHAPTERS[0]);
  const frame = page.locator("#explore-reconstruct .frame");
  await keys.reach(frame.getByRole("radio").first());
  await keys.press("Space", "Tab", "Enter");
  await keys.reach(frame.getByRole("button", { name: "Draw it, step by step" }));
  await keys.press("Enter");
  await frame.locator(".strip li").first().waitFor({ timeout: 120_000 });
  await keys.reach(frame.getByRole("button", { name: "Cancel" }));
  await keys.press("Enter");
  await frame.getByText("Cancelled.").waitFor();
  expect(await keys.has(frame.locator(".stage"))).toBe(true);
  expect(keys.faults).toEqual([]);
  await page.context().close();
}, MINUTES);

test("every exercise: code, check, hints and solution", async () => {
  let solved = 0;
  for (const name of CHAPTERS) {
    const { page, keys } = await visit(name);
    for (const island of await page.locator("[data-island=exercise]").all()) {
      const exercise = JSON.parse((await island.getAttribute("data-content"))!).name;
      const button = (label: string) => island.getByRole("button", { name: label });
      const editor = island.locator(".cm-content");
      await keys.reach(editor);
      await keys.press("Control+a", "Delete");
      await page.keyboard.insertText("def nothing(): pass\n");
      await keys.press("Escape", "Tab");
      expect(await keys.has(button("Check")), `${exercise}: Escape and Tab leave the editor`).toBe(true);
      await keys.press("Enter");
      await island.locator(".verdict.failed").waitFor({ timeout: 60_000 });
      expect(await keys.has(button("Check"))).toBe(true);
      await keys.press("Shift+Tab", "Control+a");
      await page.keyboard.insertText(exercises[exercise].solution);
      await keys.press("Control+Enter");
      await island.locator(".verdict.passed").waitFor({ timeout: 60_000 });
      await keys.reach(button("Show a hint"));
      await keys.press("Enter");
      await keys.reach(button("Show the solution"));
      await keys.press("Enter", "Enter");
      await island.getByRole("heading", { name: "The solution" }).waitFor();
      expect(await keys.walk(island), exercise).toEqual([]);
      await button("Start again").focus();
      solved++;
    }
    expect(keys.faults, name).toEqual([]);
    await page.context().close();
  }
  expect(solved).toBe(Object.keys(exercises).length);
}, MINUTES);

test("the quiz: settings, a question, its reasons, the next one", async () => {
  const { page, keys } = await visit("quiz.html");
  const quiz = page.locator("section.quiz");
  await keys.reach(quiz.getByRole("combobox", { name: "Chapter" }));
  await keys.press("ArrowDown");
  await keys.reach(quiz.getByRole("checkbox", { name: "Apply" }));
  await keys.press("Space");
  await keys.reach(quiz.getByRole("button", { name: "Start", exact: true }));
  await keys.reach(quiz.locator("input[type=file]"));
  expect(await keys.walk(page.locator("main"))).toEqual([]);
  await keys.reach(quiz.getByRole("button", { name: "Start", exact: true }));
  await keys.press("Enter");
  await keys.reach(quiz.getByRole("radio").first());
  await keys.press("Space", "ArrowDown", "Tab");
  expect(await keys.has(quiz.getByRole("button", { name: "Answer" }))).toBe(true);
  await keys.press("Enter");
  expect(await keys.has(quiz.getByRole("button", { name: "Next question" }))).toBe(true);
  expect(await keys.walk(page.locator("main"))).toEqual([]);
  await keys.reach(quiz.getByRole("button", { name: "Stop here" }));
  await keys.press("Enter");
  await quiz.getByText(/of 1 right/).waitFor();
  expect(keys.faults).toEqual([]);
  await page.context().close();
}, MINUTES);

test("the mentor: page, panel, settings", async () => {
  const { page, keys } = await visit("mentor.html");
  const ask = async (part: Locator) => {
    await keys.reach(part.getByLabel("Your question"));
    await page.keyboard.type("What is sigma?");
    await keys.press("Enter");
    await part.locator(".answer").last().waitFor({ timeout: 60_000 });
    expect(await keys.has(part.getByLabel("Your question"))).toBe(true);
  };
  await ask(page.locator(".whole"));
  expect(await keys.walk(page.locator(".whole"))).toEqual([]);
  await keys.reach(page.getByRole("button", { name: "Model: off" }));
  await keys.press("Enter");
  const dialog = page.locator("dialog");
  await keys.reach(dialog.getByLabel("Model", { exact: true }));
  await keys.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  expect(await keys.has(page.getByRole("button", { name: "Model: off" }))).toBe(true);

  await page.goto(`${server.address}glossary.html`);
  const opener = page.getByRole("button", { name: "Ask the mentor" });
  await opener.waitFor();
  await keys.reach(opener, "Tab");
  await keys.press("Enter");
  const panel = page.getByRole("dialog", { name: "Mentor" });
  await expect.poll(() => keys.has(panel.getByLabel("Your question"))).toBe(true);
  await ask(panel);
  expect(await keys.walk(panel)).toEqual([]);
  await panel.getByLabel("Your question").focus();
  await keys.press("Escape");
  await panel.waitFor({ state: "hidden" });
  await expect.poll(() => keys.has(opener)).toBe(true);
  expect(keys.faults).toEqual([]);
  await page.context().close();
}, MINUTES);

test.each(["index.html", ...CHAPTERS, "6-video-audio-3d.html", "glossary.html", "docs/index.html"])(
  "%s: Tab comes to everything, and nothing lies on it, also where the page is narrow", async (name) => {
    for (const width of [1280, 375]) {
      const { page, keys } = await visit(name, { width, height: 720 });
      expect(await keys.walk(page.locator("body")), `${width} px`).toEqual([]);
      expect(keys.faults, `${width} px`).toEqual([]);
      await page.context().close();
    }
  }, MINUTES);
