/** Create, in Chromium, against a real server with the bundled model. */

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { serve } from "../server.ts";
import { draw, launch, makePng, sharedStudio, visit, type Studio } from "./real.ts";

let studio: Studio;
let browser: Browser;
const LONG = 120_000;

beforeAll(async () => {
  [studio, browser] = [await sharedStudio(), await launch()];
}, LONG);
afterAll(() => browser?.close());

test("a first picture: written, seen coming, drawn, and there again after a reload", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?steps=8&count=2");
  await page.getByRole("textbox", { name: "Prompt" }).fill("a neon cat in space");
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await page.locator("img.preview").first().waitFor({ timeout: LONG });
  await page.locator(".tile .open").nth(1).waitFor({ timeout: LONG });
  await expect.poll(() => page.url()).toContain("prompt=a+neon+cat+in+space");
  await page.reload();
  await page.locator(".tile .open").nth(1).waitFor({ timeout: LONG });
  expect(await page.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe("a neon cat in space");
  expect(await page.getByLabel("Steps", { exact: true }).inputValue()).toBe("8");

  await page.locator(".tile .open").first().click();
  const dialog = page.getByRole("dialog", { name: "Picture" });
  await dialog.getByRole("button", { name: "Use its settings" }).click();
  await expect.poll(() => page.getByRole("textbox", { name: "Seed", exact: true }).inputValue()).toMatch(/^\d+$/);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("an empty studio offers prompts that its model was taught; one is drawn by a click", async () => {
  const { page } = await visit(browser, studio.address, "#/learn");
  await page.route("**/api/jobs?*", (route) => route.fulfill({ json: { jobs: [], next: null } }));
  await page.route("**/api/events*", (route) => route.abort());
  await page.goto(`${studio.address}/studio.html#/create?steps=2&count=1`);
  await page.reload();
  const examples = page.locator(".examples button");
  await examples.first().waitFor();
  for (const text of await examples.allInnerTexts()) {
    const body = JSON.stringify({ text, negative: false, model: null, dialect: "a1111" });
    const answer = await fetch(`${studio.address}/api/words`, { method: "POST", headers: { "content-type": "application/json" }, body });
    expect((await answer.json()).unknown, text).toEqual([]);
  }
  const text = await examples.first().innerText();
  await examples.first().click();
  await page.locator(".tile").first().waitFor();
  expect(await page.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe(text);
  await page.context().close();
}, LONG);

test("four pictures are seen coming, each in its own tile", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=two+stars&steps=12&count=4");
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await page.getByRole("img", { name: "Preview 4" }).waitFor({ timeout: LONG });
  const sources = await page.evaluate(() => Array.from(document.querySelectorAll(".tile img.preview"), (one) => (one as HTMLImageElement).src));
  expect(new Set(sources).size).toBe(4);
  if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/four.png` });
  await page.locator(".tile .open").nth(3).waitFor({ timeout: LONG });
  expect(await page.locator("img.preview").count()).toBe(0);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("a tall and a wide picture are whole on the stage, also on a phone", async () => {
  for (const [width, height] of [[64, 128], [192, 64]]) {
    const { pictures } = await draw(studio.address, { prompt: "a cat", width, height });
    for (const options of [{}, { viewport: { width: 375, height: 740 }, hasTouch: true, isMobile: true }]) {
      const { page } = await visit(browser, studio.address, "#/create", options);
      const image = page.locator(`.tile img[src*="${pictures[0].id}"]`);
      await image.waitFor();
      const [shown, tile] = await Promise.all([image.boundingBox(), page.locator(".tile").boundingBox()]);
      expect(shown!.width / shown!.height).toBeCloseTo(width / height, 1);
      expect(shown!.width).toBeLessThanOrEqual(tile!.width);
      expect(shown!.height).toBeLessThanOrEqual(tile!.height + 1);
      await page.context().close();
    }
  }
}, LONG);

test("a job that failed says why on the stage", async () => {
  const { page } = await visit(browser, studio.address, "#/create?prompt=a+cat&steps=2&count=1");
  await page.route("**/api/generate", async (route) => {
    const answer = await route.fetch();
    const error = { code: "bad_input", message: "no memory for this size", remedy: "take a smaller one", field: null };
    await route.fulfill({ response: answer, json: { ...(await answer.json()), id: "0".repeat(32), number: 1e9, state: "failed", error } });
  });
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await page.locator(".state", { hasText: "No memory for this size" }).getByText("Take a smaller one").waitFor();
  await page.context().close();
}, LONG);

test("what was asked for last is on the stage, also variations of what is there", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+cat&steps=3&count=1&seed=11");
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  const tiles = page.locator(".tile");
  await expect.poll(() => tiles.count(), { timeout: LONG }).toBe(1);
  await tiles.locator(".open").waitFor({ timeout: LONG });
  await tiles.getByRole("button", { name: "Vary" }).click();
  await expect.poll(() => tiles.count(), { timeout: LONG }).toBe(4);
  await tiles.locator(".open").nth(3).waitFor({ timeout: LONG });
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("the prompt shows how the model reads it", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+(neon:1.3)+zyxxy+cat");
  await page.getByText("zyxxy: the model was never taught this word").waitFor();
  await page.getByText("neon × 1.3").waitFor();
  expect(await page.getByText(/^\d+ of 30 tokens$/).first().innerText()).toBe("8 of 30 tokens");
  await page.getByRole("textbox", { name: "Prompt" }).fill("cat ".repeat(40));
  await page.getByText("40 of 60 tokens · 2 blocks").waitFor();
  expect(await page.locator(".marks .border").count()).toBe(1);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("a queue: places are shown; one job can be taken out, or all", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+fox&count=1&steps=150");
  const button = page.getByRole("button", { name: "Draw", exact: true });
  for (let i = 0; i < 5; i++) await button.click();
  const queue = page.getByRole("region", { name: "Queue" });
  await queue.getByText(/Waits behind \d|Is next/).first().waitFor();
  await expect.poll(() => queue.getByRole("listitem").count()).toBe(5);
  await queue.getByRole("button", { name: "Cancel", exact: true }).last().click();
  await expect.poll(() => queue.getByRole("listitem").count()).toBe(4);
  await queue.getByRole("button", { name: "Cancel all 4" }).click();
  const waiting = async () => (await (await fetch(`${studio.address}/api/jobs?state=queued&state=running`)).json()).jobs.length;
  await expect.poll(waiting, { timeout: 30_000 }).toBe(0);
  await queue.waitFor({ state: "hidden" });
  const ended = (await (await fetch(`${studio.address}/api/jobs?limit=5`)).json()).jobs;
  expect(ended.map(({ state }: { state: string }) => state)).toEqual(Array(5).fill("cancelled"));
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("settings of a foreign picture, with what could not be used; and a picture to start from", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create");
  const text = "a red fox\nNegative prompt: snow\nSteps: 3, Sampler: Euler a, CFG scale: 3, Seed: 7, Size: 128x128, Wonder: 5";
  const file = { name: "theirs.png", mimeType: "image/png", buffer: makePng("parameters", text) };
  await page.locator("input[type=file][hidden]").setInputFiles(file);
  await page.getByText("The form has the settings of theirs.png (a1111).").waitFor({ timeout: LONG });
  expect(await page.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe("a red fox");
  expect(await page.getByRole("textbox", { name: "Stay away from" }).inputValue()).toBe("snow");
  expect(await page.getByRole("textbox", { name: "Seed", exact: true }).inputValue()).toBe("7");
  await page.getByText("Not used of that picture").waitFor();
  await page.getByText(/Wonder/).waitFor();
  await page.getByRole("button", { name: "Start from it" }).click();
  await page.getByText("The next picture starts from this one.").waitFor({ timeout: LONG });
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  const newest = async () => (await (await fetch(`${studio.address}/api/jobs?limit=1`)).json()).jobs[0];
  await expect.poll(async () => (await newest()).kind, { timeout: LONG }).toBe("edit");
  await expect.poll(async () => (await newest()).state, { timeout: LONG }).toBe("done");
  expect((await newest()).settings.seed).toBe(7);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("from Create to describing a picture, by keyboard, and back with its words", async () => {
  await draw(studio.address, { prompt: "a whale" });
  const { page, faults } = await visit(browser, studio.address, "#/create");
  await page.getByRole("link", { name: "describe one" }).press("Enter");
  await page.getByRole("heading", { name: "Describe a picture", level: 1 }).waitFor();
  await page.locator(".picker li button").first().press("Enter");
  await page.getByRole("button", { name: "Describe it" }).press("Enter");
  const words = await page.locator("tbody td").first().innerText({ timeout: LONG });
  await page.getByRole("button", { name: "Use as the prompt" }).first().press("Enter");
  await page.getByRole("button", { name: "Open them in Create" }).press("Enter");
  await expect.poll(() => page.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe(words);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("a file that is no picture is refused, and no start is offered", async () => {
  const { page } = await visit(browser, studio.address, "#/create");
  await page.locator("input[type=file][hidden]").setInputFiles({ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("hello") });
  await page.getByRole("alert").getByText(/^The picture is no picture/).waitFor();
  await page.waitForTimeout(300);
  expect(await page.getByRole("button", { name: "Start from it" }).count()).toBe(0);
  const plain = { name: "plain.png", mimeType: "image/png", buffer: makePng("Software", "a camera") };
  await page.locator("input[type=file][hidden]").setInputFiles(plain);
  await page.getByRole("button", { name: "Start from it" }).waitFor({ timeout: LONG });
  await page.context().close();
}, LONG);

test("a short prompt is made to say more; it is shown, edited and used", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+cat");
  await page.getByRole("button", { name: "Say more" }).click();
  const fuller = page.getByRole("textbox", { name: "A fuller prompt" });
  await fuller.waitFor({ timeout: LONG });
  const text = await fuller.inputValue();
  expect(text.length).toBeGreaterThan("a cat".length);
  await fuller.fill(`${text}, at night`);
  await page.getByRole("button", { name: "Use it", exact: true }).click();
  await expect.poll(() => page.getByRole("textbox", { name: "Prompt", exact: true }).inputValue()).toBe(`${text}, at night`);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("a bad value is told with its remedy, and nothing is lost", async () => {
  const { page } = await visit(browser, studio.address, "#/create?prompt=a+cat&steps=900");
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  const message = page.getByRole("alert").filter({ hasText: "900" });
  await message.waitFor();
  expect(await message.innerText()).toMatch(/at most/);
  expect(await page.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe("a cat");
  await page.context().close();
}, LONG);

test("keys: the sheet of shortcuts, views and the theme", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create", { colorScheme: "light" });
  await page.getByRole("button", { name: "Draw", exact: true }).waitFor();
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keyboard shortcuts" }).getByText("Light or dark").waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("t");
  expect(await page.evaluate(() => document.documentElement.dataset.theme)).toBe("dark");
  await page.keyboard.press("g");
  await page.getByRole("heading", { name: "Gallery" }).waitFor();
  await page.keyboard.press("c");
  await page.getByRole("button", { name: "Draw", exact: true }).waitFor();
  await page.keyboard.press("p");
  await page.keyboard.type("gp?");
  await expect.poll(() => page.getByRole("textbox", { name: "Prompt" }).inputValue()).toMatch(/gp\?$/);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("without a server the page draws in the tab", async () => {
  const site = process.env.SITE ?? new URL("../../../../src/fromnoise/learn/site/", import.meta.url).pathname;
  const server = await serve({ "": site });
  const address = server.address.replace(/\/$/, "");
  const { page, faults } = await visit(browser, address, "#/create?prompt=a+neon+cat&steps=2&count=1&seed=1&width=192", { viewport: { width: 375, height: 740 } });
  await page.getByText("There is no server behind this page").waitFor();
  await page.locator("summary", { hasText: "Model and sampler" }).click();
  await page.getByLabel("Sampler").locator("option", { hasText: "Euler a" }).first().waitFor({ state: "attached" });
  await page.getByLabel("Sampler").selectOption({ label: "Euler a" });
  expect(await page.getByLabel("Guidance", { exact: true }).getAttribute("placeholder")).toBe("4");
  expect(await page.getByLabel("Width").count()).toBe(0);
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await page.getByText("The model in the tab does not use: width.").waitFor();
  await page.getByText("a neon cat · seed 1").waitFor({ timeout: LONG });
  await expect.poll(() => page.locator("figure canvas").first().evaluate((canvas: HTMLCanvasElement) => canvas.width), { timeout: LONG }).toBe(128);
  expect(await page.evaluate(() => Math.max(...Array.from(document.querySelectorAll("canvas, p"), (one) => one.getBoundingClientRect().right)))).toBeLessThanOrEqual(375);
  expect(faults).toEqual([]);
  await page.context().close();
  await server.close();
}, LONG);

test("two studios side by side: a picture that one draws is seen in the other", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create");
  await page.getByRole("button", { name: "Draw", exact: true }).waitFor();
  await draw(studio.address, { prompt: "a turtle from elsewhere" });
  await page.getByRole("button", { name: "Show: a turtle from elsewhere" }).waitFor();
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);
