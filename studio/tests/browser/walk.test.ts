/** A reader's walk through the chapters of the built site, in Chromium: every explorable from the
 * prediction to the check, as somebody does it who only follows the buttons.
 *
 * SCREENSHOTS=folder also writes every page at three widths, light and dark, to be looked at. */

import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium, type Browser, type BrowserContextOptions, type Locator, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { serve, type StaticServer } from "./server.ts";

const SITE = process.env.SITE ?? new URL("../../../src/fromnoise/learn/site/", import.meta.url).pathname;
const pages = readdirSync(SITE).filter((name) => name.endsWith(".html") && name !== "404.html").sort();
const chapters = pages.filter((name) => /^\d/.test(name) && !name.startsWith("6-"));

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
    await expect.poll(() => island.getAttribute("data-mounted"), { timeout: 20_000 }).toBe("yes");
  }
  await page.waitForLoadState("networkidle");
}

/** Starts what an explorable does not start by itself: its main button. */
async function start(frame: Locator): Promise<void> {
  const compare = frame.getByRole("button", { name: "Compare with my prediction" });
  await compare.waitFor({ timeout: 2_000 }).catch(async () => {
    await frame.locator(".stage button.primary:not([aria-disabled])").first().click();
  });
  await compare.waitFor({ timeout: 180_000 });
}

test.each(chapters)("%s: every explorable from the prediction to the check", async (name) => {
  const { page, faults } = await visit(name);
  await mountAll(page);
  for (const frame of await page.locator("section.frame").all()) {
    const title = await frame.locator("h3").first().innerText();
    await frame.scrollIntoViewIfNeeded();
    await frame.getByRole("radio").first().check();
    await frame.getByRole("button", { name: "Lock my prediction" }).click();
    await start(frame);
    await frame.getByRole("button", { name: "Compare with my prediction" }).click();
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
    expect(await frame.locator(".failure").allInnerTexts(), title).toEqual([]);
  }
  expect(faults).toEqual([]);
  await page.context().close();
}, 900_000);

test.runIf(process.env.SCREENSHOTS)("screenshots", async () => {
  const folder = process.env.SCREENSHOTS!;
  mkdirSync(folder, { recursive: true });
  for (const name of pages) {
    for (const colorScheme of ["light", "dark"] as const) {
      for (const width of [375, 768, 1440]) {
        const { page } = await visit(name, { colorScheme, viewport: { width, height: 900 } });
        await mountAll(page);
        await page.evaluate(() => scrollTo(0, 0));
        const file = `${name.replace(".html", "")}-${width}-${colorScheme}.png`;
        await page.screenshot({ path: join(folder, file), fullPage: true });
        await page.context().close();
      }
    }
  }
}, 1_200_000);
