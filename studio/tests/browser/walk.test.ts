/** A reader's walk through the built site, in Chromium: every page, explorable, exercise, the quiz
 * and the mentor, by mouse and by keyboard; axe on every page; no request to any other place.
 *
 * SCREENSHOTS=folder also writes every page at three widths, light and dark, to be looked at. */

import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium, type Browser, type BrowserContextOptions, type Locator, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { serve, type StaticServer } from "./server.ts";

const SITE = new URL("../../../src/fromnoise/learn/site/", import.meta.url).pathname;
const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const pages = readdirSync(SITE).filter((name) => name.endsWith(".html") && name !== "404.html").sort();
pages.push("docs/index.html", "docs/log.html", "source.html?path=src/fromnoise/diffusion/forward.py#L12");
const chapters = pages.filter((name) => /^\d/.test(name));

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

/** A page of the site, and what went wrong in it: errors, failed answers, requests elsewhere. */
async function visit(name: string, options: BrowserContextOptions = {}): Promise<{ page: Page; faults: string[] }> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  const faults: string[] = [];
  const home = new URL(server.address).origin;
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) faults.push(`${message.type()}: ${message.text()}`);
  });
  page.on("response", (answer) => {
    if (answer.status() >= 400) faults.push(`${answer.status()}: ${answer.url()}`);
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (!["data:", "blob:"].includes(url.protocol) && url.origin !== home) faults.push(`elsewhere: ${url}`);
  });
  await page.goto(new URL(name, server.address).href);
  return { page, faults };
}

/** Mounts every live part of a page: they come when they are near the view. */
async function mountAll(page: Page): Promise<void> {
  for (const island of await page.locator("[data-island]").all()) {
    await island.scrollIntoViewIfNeeded();
    await expect.poll(() => island.getAttribute("data-mounted"), { timeout: 10_000 }).toBe("yes");
  }
  await page.waitForLoadState("networkidle");
}

test.each(pages)("%s: no error, no request elsewhere, no violation of axe", async (name) => {
  for (const colorScheme of ["light", "dark"] as const) {
    for (const width of colorScheme === "light" ? [375, 1440] : [768]) {
      // axe itself is a script that the pages' policy does not admit
      const { page, faults } = await visit(name, { bypassCSP: true, colorScheme, viewport: { width, height: 900 } });
      await mountAll(page);
      await page.addScriptTag({ path: AXE });
      const violations = await page.evaluate(async () => {
        const { violations } = await (window as any).axe.run(); // eslint-disable-line
        return violations.map((v: any) => `${v.id}: ${v.nodes.map((n: any) => n.target.join(" ")).slice(0, 4)}`); // eslint-disable-line
      });
      expect(violations, `${name} at ${width}, ${colorScheme}`).toEqual([]);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      expect(overflow, `${name} is wider than ${width} pixels`).toBeLessThanOrEqual(0);
      expect(faults).toEqual([]);
      await page.context().close();
    }
  }
}, 120_000);

async function frames(page: Page): Promise<Locator[]> {
  await mountAll(page);
  return page.locator("section.frame").all();
}

/** Starts what an explorable does not start by itself: its main button. */
async function start(frame: Locator): Promise<void> {
  const button = frame.locator(".stage button.primary:enabled").first();
  const compare = frame.getByRole("button", { name: "Compare with my prediction" });
  await compare.waitFor({ timeout: 2_500 }).catch(async () => {
    if (await button.isVisible()) await button.click();
  });
}

test.each(chapters)("%s: every explorable from the prediction to the check", async (name) => {
  const { page, faults } = await visit(name);
  for (const frame of await frames(page)) {
    const title = await frame.locator("h3").innerText();
    await frame.scrollIntoViewIfNeeded();
    await frame.getByRole("radio").first().check();
    await frame.getByRole("button", { name: "Lock my prediction" }).click();
    await start(frame);
    const compare = frame.getByRole("button", { name: "Compare with my prediction" });
    await compare.waitFor({ timeout: 90_000 });
    await compare.click();
    await frame.getByRole("heading", { name: /Explain/ }).waitFor();
    await frame.getByRole("checkbox", { name: "I have tried it" }).check();
    await frame.getByText(/^What ran/).click();
    expect(await frame.locator("table tbody tr").count(), `${title} tells what ran`).toBeGreaterThan(0);
    const [download] = await Promise.all([
      page.waitForEvent("download"), frame.getByRole("button", { name: "Save the data" }).click(),
    ]);
    const saved = JSON.parse(readFileSync(await download.path(), "utf8"));
    expect(saved.title).toBe(title);
    expect(saved.data, `${title} saves data`).toBeTruthy();
    await expect.poll(() => frame.locator(".stage").getAttribute("aria-busy"), { timeout: 90_000 }).toBe("false");
    expect(await frame.getByRole("alert").allInnerTexts(), title).toEqual([]);
  }
  expect(faults).toEqual([]);
  await page.context().close();
}, 600_000);

/** Presses Tab until the focus lies on the element, and fails after too many. */
async function tabTo(page: Page, target: Locator, most = 400): Promise<void> {
  await target.waitFor();
  for (let i = 0; i < most; i++) {
    if (await target.evaluate((element) => element === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`Tab does not reach ${target}`);
}

test("the keyboard alone is enough: contents, chapter, prediction, run, comparison, quiz", async () => {
  const { page, faults } = await visit("index.html");
  await tabTo(page, page.getByRole("link", { name: /Begin with chapter one/ }));
  await page.keyboard.press("Enter");
  await page.waitForURL(/1-order-from-chaos/);
  await mountAll(page);
  await page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
  const frame = page.locator("section.frame").first();
  await tabTo(page, frame.getByRole("radio").first());
  await page.keyboard.press("Space");
  await tabTo(page, frame.getByRole("button", { name: "Lock my prediction" }), 10);
  await page.keyboard.press("Enter");
  await tabTo(page, frame.getByRole("slider").first(), 20);
  const before = await frame.getByRole("slider").first().inputValue();
  await page.keyboard.press("ArrowRight");
  expect(await frame.getByRole("slider").first().inputValue()).not.toBe(before);
  await tabTo(page, frame.getByRole("button", { name: "Compare with my prediction" }), 60);
  await page.keyboard.press("Enter");
  await frame.getByRole("heading", { name: /Explain/ }).waitFor();
  expect(faults).toEqual([]);
  await page.context().close();
}, 120_000);

test("text is readable at once, and the first explorable answers within 2 s, without the model", async () => {
  const { page } = await visit("about:blank");
  const loaded: string[] = [];
  page.on("request", (request) => loaded.push(request.url()));
  const begun = performance.now();
  await page.goto(new URL(chapters[0], server.address).href);
  await page.getByRole("heading", { level: 1 }).waitFor();
  const readable = performance.now() - begun;
  const frame = page.locator("section.frame").first();
  await page.locator("[data-island=explorable]").first().scrollIntoViewIfNeeded();
  await frame.locator(".stage canvas, .stage svg").first().waitFor();
  const live = performance.now() - begun;
  console.info(`text after ${Math.round(readable)} ms, first explorable live after ${Math.round(live)} ms`);
  expect(readable).toBeLessThan(2_000);
  expect(live).toBeLessThan(2_000);
  expect(loaded.filter((url) => /\/(model|runtimes)\//.test(url))).toEqual([]);
  await page.context().close();
}, 60_000);

test.runIf(process.env.SCREENSHOTS)("screenshots", async () => {
  const folder = process.env.SCREENSHOTS!;
  mkdirSync(folder, { recursive: true });
  for (const name of pages) {
    for (const colorScheme of ["light", "dark"] as const) {
      for (const width of [375, 768, 1440]) {
        const { page } = await visit(name, { colorScheme, viewport: { width, height: 900 } });
        await mountAll(page);
        await page.evaluate(() => scrollTo(0, 0));
        const file = `${name.replaceAll(/\W+/g, "-").slice(0, 40)}-${width}-${colorScheme}.png`;
        await page.screenshot({ path: join(folder, file), fullPage: true });
        await page.context().close();
      }
    }
  }
}, 1_200_000);
