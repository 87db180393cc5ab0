/** The built site in Chromium, as `fromnoise learn` and any static host serve it. */

import { chromium, type Browser, type Page } from "playwright-core";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { expectPace } from "../pace.ts";
import { resize } from "./resize.ts";
import { serve, type StaticServer } from "./server.ts";

const site = new URL("../../../src/fromnoise/learn/site/", import.meta.url).pathname;
const axe = readFileSync(new URL("../../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const PAGES = [
  "index.html", "1-order-from-chaos.html", "2-latent-diffusion.html", "3-clip-the-bridge.html",
  "4-prompts-and-sampling.html", "5-train-one-yourself.html", "6-video-audio-3d.html", "quiz.html",
  "mentor.html", "glossary.html", "docs/index.html", "docs/samplers.html", "docs/map.html",
  "source.html?path=src/fromnoise/diffusion/samplers/heun.py#L20",
];
const WIDTHS = [375, 768, 1440];
let server: StaticServer;
let browser: Browser;

beforeAll(async () => {
  // a folder deep inside a host: all addresses of the site must be relative
  server = await serve({ "": site }, { prefix: "some/where/" });
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
}, 60_000);

afterAll(async () => {
  await browser?.close();
  await server?.close();
});

interface Visit {
  page: Page;
  problems: string[]; // errors of the page, requests that left its origin or failed
}

async function visit(file: string, options: Parameters<Browser["newPage"]>[0] = {}): Promise<Visit> {
  const page = await browser.newPage({ serviceWorkers: "block", ...options });
  const problems: string[] = [];
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => {
    if (/blocked by Playwright/.test(message.text())) return; // the service worker has tests of its own
    if (message.type() === "error" || message.type() === "warning") problems.push(message.text());
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(server.address) && !/^(data|blob):/.test(request.url())) problems.push(request.url());
  });
  page.on("response", (response) => {
    if (response.status() >= 400) problems.push(`${response.status()} ${response.url()}`);
  });
  await page.goto(server.address + file, { waitUntil: "load" });
  return { page, problems };
}

/** Mounts every part of the page, as a reader's first Tab does, and waits until it stands. */
async function mountAll(page: Page) {
  await page.keyboard.press("Tab");
  await page.waitForFunction(() =>
    [...document.querySelectorAll<HTMLElement>("[data-island]")].every(
      (island) => island.dataset.mounted && !island.querySelector(":scope > .card, :scope > .filmstrip"),
    ) && ![...document.querySelectorAll(".stage")].some((stage) => stage.textContent!.includes("Loading the explorable")),
  undefined, { timeout: 30_000 });
  // headings of the page are there before any part; the parts must not have failed
  expect(await page.locator(".load-failure").allTextContents()).toEqual([]);
}

describe.each(PAGES)("%s", (file) => {
  test("no violation, no error, no foreign request, no overflow", async () => {
    for (const colorScheme of ["light", "dark"] as const) {
      const { page, problems } = await visit(file, { colorScheme, reducedMotion: "reduce" });
      await mountAll(page);
      await page.evaluate(axe); // not as a script of the page: its policy refuses that
      const results = await page.evaluate(async () => {
        const { violations } = await (window as unknown as { axe: typeof import("axe-core") }).axe.run();
        return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(" ")).slice(0, 3).join(", ")}`);
      });
      expect(results, colorScheme).toEqual([]);
      for (const width of WIDTHS) {
        await resize(page, width);
        const extra = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        expect(extra, `at ${width} px`).toBeLessThanOrEqual(0);
      }
      expect(problems).toEqual([]);
      await page.close();
    }
  }, 90_000);
});

test("text is there without JavaScript", async () => {
  const { page } = await visit("1-order-from-chaos.html", { javaScriptEnabled: false });
  for (const text of ["Put a drop of ink into a glass of water", "What you take with you"]) {
    const place = page.locator("main").locator("p, h2").filter({ hasText: text });
    expect(await place.first().isVisible()).toBe(true);
  }
  expect(await page.locator(".formula .katex").count()).toBeGreaterThan(2);
  await page.close();
});

// The bar: text readable, and the first two-dimensional explorable live, within 2 seconds. Other work
// on the machine makes a visit slower and never faster, so the best of five counts.
test("a first visit: text at once, the first explorable within 2 seconds", async () => {
  const visits: { text: number; live: number; model: boolean }[] = [];
  for (let i = 0; i < 5; i++) {
    const context = await browser.newContext({ serviceWorkers: "block" }); // an empty cache
    const page = await context.newPage();
    await page.goto(server.address + "1-order-from-chaos.html", { waitUntil: "commit" });
    await page.locator("#explore-destroy").scrollIntoViewIfNeeded();
    await page.waitForSelector("#explore-destroy .stage input[type=range]");
    visits.push(await page.evaluate(() => ({
      text: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? Infinity,
      live: performance.now(),
      model: performance.getEntriesByType("resource").some((entry) => /\/(model|runtimes)\//.test(entry.name)),
    })));
    await context.close();
  }
  const best = (name: "text" | "live") => Math.min(...visits.map((visit) => visit[name]));
  expectPace("text", best("text"), 1000);
  expectPace("the first explorable", best("live"), 2000);
  expect(visits.some((visit) => visit.model)).toBe(false); // it loads only when an explorable wants it
}, 60_000);

test("an explorable from prediction to check, by keyboard alone", async () => {
  const { page, problems } = await visit("1-order-from-chaos.html");
  await mountAll(page);
  const frame = page.locator("#explore-destroy");
  await frame.locator("input[type=radio]").first().focus();
  await page.keyboard.press("ArrowDown"); // chooses
  await page.keyboard.press("Tab");
  expect(await page.evaluate(() => document.activeElement!.textContent!.trim())).toBe("Lock my prediction");
  await page.keyboard.press("Enter");
  await expect.poll(() => frame.getByText("Your prediction is locked").isVisible()).toBe(true);
  await frame.locator("input[type=range]").first().focus();
  for (let i = 0; i < 5; i++) await page.keyboard.press("PageUp");
  await frame.getByRole("button", { name: "Compare with my prediction" }).focus();
  await page.keyboard.press("Enter");
  await expect.poll(() => frame.getByText(/You predicted|was right/).count()).toBeGreaterThan(0);
  await frame.getByLabel("I have tried it").focus();
  await page.keyboard.press("Space");
  const [file] = await Promise.all([
    page.waitForEvent("download"), frame.getByRole("button", { name: "Save the data" }).press("Enter"),
  ]);
  const saved = JSON.parse(readFileSync(await file.path(), "utf8"));
  expect(saved.explorable).toBe("destroy");
  expect(saved.ran.length).toBeGreaterThan(0);
  expect(saved.ran[0].place.path).toMatch(/^src\/fromnoise\//);
  // a later visit remembers
  await page.reload();
  await page.locator("#explore-destroy").scrollIntoViewIfNeeded();
  await expect.poll(() => page.locator("#explore-destroy").getByText("Your prediction is locked").count()).toBe(1);
  expect(problems).toEqual([]);
  await page.close();
}, 60_000);

test("a citation opens its paragraph, and a place its line", async () => {
  const { page } = await visit("1-order-from-chaos.html#line-26");
  await expect.poll(() => page.locator(".cited").count()).toBe(1);
  expect(await page.locator(".cited").isVisible()).toBe(true);
  await page.locator(".formula a.place").first().click();
  await page.waitForSelector(".code .marked");
  const marked = page.locator(".code .marked");
  expect(await marked.getAttribute("id")).toBe(new URL(page.url()).hash.slice(1));
  await expect.poll(async () => (await marked.boundingBox())!.y).toBeLessThan(900);
  await page.goto(server.address + "source.html?path=../../etc/passwd");
  await expect.poll(() => page.getByRole("alert").textContent()).toContain("no source file");
  await page.close();
}, 30_000);

test("the colours follow the system, and the switch is remembered", async () => {
  const { page } = await visit("quiz.html", { colorScheme: "dark" });
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await background();
  await page.getByRole("button", { name: "Light colours" }).click();
  const light = await background();
  expect(light).not.toBe(dark);
  await page.reload();
  await expect.poll(background).toBe(light);
  await page.close();
});

test("reading is remembered on the first page", async () => {
  const { page } = await visit("6-video-audio-3d.html");
  await page.evaluate(() => scrollTo({ top: document.body.scrollHeight, behavior: "instant" }));
  await page.waitForSelector(".contents a.read");
  await page.goto(server.address + "index.html");
  await expect.poll(() => page.locator(".read", { hasText: /read$/ }).count()).toBeGreaterThan(0);
  await page.close();
});
