/** Look inside, against the real server and the bundled model, in Chromium.
 *
 * SCREENSHOTS=folder also writes the view at three widths, light and dark, to be looked at. */

import { spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type Browser, type BrowserContextOptions, type Locator, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const WAIT = 90_000; // a slow machine draws a picture in far less
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf-8");

let data: string;
let server: ChildProcess;
let address: string;
let browser: Browser;
let first: { id: string; seed: string };
let second: { id: string; seed: string };
const outside: string[] = []; // addresses beyond loopback that a page asked for
const faults: string[] = []; // errors of pages

beforeAll(async () => {
  data = mkdtempSync(join(tmpdir(), "fromnoise-"));
  server = spawn("fromnoise", ["studio", "--no-browser", "--port", "0", "--slots", "1", "--data", data], { stdio: ["ignore", "pipe", "pipe"] });
  address = await new Promise<string>((resolve, reject) => {
    let said = "";
    const hear = (part: Buffer) => {
      said += part;
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(said);
      if (found) resolve(found[0]);
    };
    server.stdout!.on("data", hear);
    server.stderr!.on("data", hear);
    server.on("exit", () => reject(new Error(`the server ended: ${said}`)));
  });
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  [first, second] = await draw({ prompt: "a red neon cat in space", seed: 5, steps: 6, count: 2 });
}, 300_000);

afterAll(async () => {
  await browser?.close();
  if (server && server.exitCode === null) {
    const ended = new Promise((resolve) => server.on("exit", resolve));
    server.kill("SIGTERM");
    await ended;
  }
  rmSync(data, { recursive: true, force: true });
}, 60_000);

async function api<T>(path: string, body?: unknown): Promise<T> {
  const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  const answer = await fetch(`${address}/api/${path}`, init);
  expect(answer.ok, `${path}: ${answer.status}`).toBe(true);
  return answer.json() as Promise<T>;
}

async function draw(body: object): Promise<{ id: string; seed: string }[]> {
  let job = await api<{ id: string; state: string; pictures: { id: string; seed: string }[] }>("generate", body);
  const limit = Date.now() + 120_000;
  while (job.state !== "done") {
    expect(Date.now()).toBeLessThan(limit);
    await new Promise((resolve) => setTimeout(resolve, 200));
    job = await api(`jobs/${job.id}`);
  }
  return job.pictures;
}

async function openPage(options: BrowserContextOptions = {}): Promise<Page> {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT);
  page.on("request", (request) => {
    const { protocol, hostname } = new URL(request.url());
    if (protocol.startsWith("http") && hostname !== "127.0.0.1") outside.push(request.url());
  });
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) faults.push(message.text());
  });
  return page;
}

async function openTrace(page: Page, id = first.id): Promise<void> {
  await page.goto(`${address}/studio.html#/inside/${id}`);
  await page.locator("[data-panel=map]").waitFor();
  await page.locator("[data-panel=map] canvas").first().waitFor();
}

const panel = (page: Page, name: string): Locator => page.locator(`[data-panel=${name}]`);
const scrubber = (page: Page): Locator => page.getByRole("slider", { name: "Step of the run" });

/** A canvas's or picture's pixels, as one text that two of the same share. */
function look(target: Locator): Promise<string> {
  return target.evaluate(async (element) => {
    if (element instanceof HTMLCanvasElement) return element.toDataURL();
    const image = element as HTMLImageElement;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    canvas.getContext("2d")!.drawImage(image, 0, 0);
    return canvas.toDataURL();
  });
}

async function save(page: Page, click: Locator): Promise<Buffer> {
  const [file] = await Promise.all([page.waitForEvent("download"), click.click()]);
  return readFileSync((await file.path())!);
}

async function findViolations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: { run: (options: object) => Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> } };
    const found = await axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] });
    return found.violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html }) => html.slice(0, 160)).join(" | ")}`);
  });
}

describe("a picture's run", { timeout: 300_000 }, () => {
  test("a picture opens its trace; the scrubber moves through x, x0 and eps", async () => {
    const page = await openPage();
    await page.goto(`${address}/studio.html#/gallery`);
    await page.goto(`${address}/studio.html#/inside/${first.id}`);
    await page.getByText("byte by byte").waitFor();
    await panel(page, "map").locator("canvas").first().waitFor();
    const guided = page.getByRole("img", { name: /^x0, guided at step/ }).first();
    const finished = await look(guided);
    await scrubber(page).fill("1");
    await page.getByRole("img", { name: "x0 with the prompt at step 2" }).waitFor();
    expect(await look(page.getByRole("img", { name: "x, noisy at step 2" }))).not.toBe(await look(page.getByRole("img", { name: "eps, the noise at step 2" })));
    expect(await page.evaluate(() => location.hash)).toContain("call=1");
    await page.getByRole("button", { name: "The next step" }).click();
    await page.getByRole("img", { name: "x0 with the prompt at step 3" }).waitFor();
    // the picture of the last step is the picture, as the decoder makes it of the last x0
    await scrubber(page).fill("5");
    await page.getByRole("img", { name: "x0, guided at step 6" }).waitFor();
    expect(await look(page.getByRole("img", { name: "x0, guided at step 6" }))).toBe(finished);
    // another of the five has other channels
    const channels = panel(page, "latents").locator("canvas").first();
    await channels.waitFor();
    const before = await look(channels);
    await page.getByRole("button", { name: "eps, the noise" }).click();
    await panel(page, "latents").getByText(/^eps, the noise/).waitFor();
    await expect.poll(() => look(channels)).not.toBe(before);
    await page.close();
  });

  test("a word's map changes with the word, the step and the layer; the same seed without it", async () => {
    const page = await openPage();
    await openTrace(page);
    const words = panel(page, "map");
    const shown = words.locator("figure canvas").first();
    await words.getByRole("button", { name: "cat", exact: true }).click();
    await words.getByText(/^“cat”, step 6/).waitFor();
    const cat = await look(shown);
    await words.getByRole("button", { name: "space", exact: true }).click();
    await words.getByText(/^“space”, step 6/).waitFor();
    expect(await look(shown)).not.toBe(cat);
    await words.getByRole("button", { name: "cat", exact: true }).click();
    await words.getByText(/^“cat”, step 6/).waitFor();
    await words.getByRole("button", { name: "Go to step 2" }).click();
    await words.getByText(/^“cat”, step 2/).waitFor();
    expect(await look(shown)).not.toBe(cat);
    const mean = await look(shown);
    await words.getByRole("combobox", { name: /^Layer/ }).selectOption({ index: 1 });
    await expect.poll(() => look(shown)).not.toBe(mean);
    await words.getByRole("button", { name: "Draw the same seed without “cat”" }).click();
    const without = words.getByRole("img", { name: "The same seed without “cat”: a red neon in space" });
    await without.waitFor();
    await words.getByText(/levels on average/).waitFor();
    const [drawn] = await draw({ prompt: "a red neon in space", seed: 5, steps: 6 });
    const real = await page.evaluate(async (path) => {
      const image = await createImageBitmap(await (await fetch(path)).blob());
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [image.width, image.height];
      canvas.getContext("2d")!.drawImage(image, 0, 0);
      return canvas.toDataURL();
    }, `/api/pictures/${drawn.id}/file`);
    expect(await look(without)).toBe(real);
    await page.close();
  });

  test("two settings at the same seed go side by side, and so does another picture", async () => {
    const page = await openPage();
    await openTrace(page);
    await page.getByRole("spinbutton", { name: "Guidance" }).fill("1");
    await page.getByRole("button", { name: "Draw the same seed so" }).click();
    const apart = panel(page, "difference");
    await apart.getByText(/the same seed, guidance 1\./).waitFor();
    await apart.getByText("x0 apart").first().waitFor();
    await apart.getByText(/levels on average/).first().waitFor();
    const here = apart.getByRole("img", { name: "Where the two differ at this step: bright is much" });
    const late = await look(here);
    await scrubber(page).fill("2");
    await apart.getByText("this run, step 3", { exact: true }).waitFor();
    await expect.poll(() => look(here)).not.toBe(late);
    await page.getByLabel("Or another picture").selectOption(second.id);
    await page.getByRole("button", { name: "Compare with it" }).click();
    await apart.getByText(/seed 6/).first().waitFor();
    await page.close();
  });

  test("every panel saves JSON and PNG, shows a table and names its code", async () => {
    const page = await openPage();
    await openTrace(page);
    await page.getByLabel("Steps", { exact: true }).fill("4");
    await page.getByRole("button", { name: "Draw the same seed so" }).click();
    await panel(page, "difference").locator("svg").first().waitFor();
    for (const name of ["frame", "sigmas", "norms", "guidance", "latents", "map", "words", "difference"]) {
      const one = panel(page, name);
      const saved = JSON.parse((await save(page, one.getByRole("button", { name: "JSON" }))).toString()) as { panel: string; rows: unknown[][]; places: { line: number }[] };
      expect(saved.panel).toBe(name);
      expect(saved.rows.length).toBeGreaterThan(0);
      const png = await save(page, one.getByRole("button", { name: "PNG" }));
      const size = await page.evaluate(async (bytes) => {
        const image = await createImageBitmap(new Blob([new Uint8Array(bytes)], { type: "image/png" }));
        return image.width * image.height;
      }, [...png]);
      expect(size, name).toBeGreaterThan(1000);
      await one.locator("summary", { hasText: "Table" }).click();
      expect(await one.locator("tbody tr").count(), name).toBeGreaterThan(0);
      await one.locator("summary", { hasText: "Computed by" }).click();
      const link = one.locator("code").first();
      expect(await link.textContent()).toMatch(/^[a-z_/]+\.py:\d+$/);
    }
    await page.close();
  });

  test("everything by keyboard", async () => {
    const page = await openPage({ reducedMotion: "reduce" });
    await openTrace(page);
    await scrubber(page).focus();
    await page.keyboard.press("Home");
    await page.getByRole("img", { name: "x0 with the prompt at step 1" }).waitFor();
    await page.keyboard.press("ArrowRight");
    await page.getByRole("img", { name: "x0 with the prompt at step 2" }).waitFor();
    await page.keyboard.press("."); // the shortcut of the view
    await page.getByRole("img", { name: "x0 with the prompt at step 3" }).waitFor();
    const reach = async (name: string, most = 90) => {
      for (let i = 0; i < most; i++) {
        await page.keyboard.press("Tab");
        const text = await page.evaluate(() => document.activeElement?.textContent?.trim() ?? "");
        if (text === name) return;
      }
      throw new Error(`the focus never reaches ${name}`);
    };
    await reach("x0 with the prompt");
    await page.keyboard.press("Enter");
    expect(await page.getByRole("button", { name: "x0 with the prompt" }).getAttribute("aria-pressed")).toBe("true");
    await reach("neon");
    await page.keyboard.press("Space");
    await panel(page, "map").getByText(/^“neon”, step 3/).waitFor();
    await page.close();
  });

  test("“Why?” opens the mentor with the question of the panel", async () => {
    const page = await openPage();
    await openTrace(page);
    const [mentor] = await Promise.all([page.waitForEvent("popup"), panel(page, "latents").getByRole("link", { name: /^Why\?/ }).click()]);
    mentor.setDefaultTimeout(WAIT);
    await mentor.getByText("You ask about “Latent channels”.").waitFor();
    expect(await mentor.locator(".about img").evaluate((image: HTMLImageElement) => image.decode().then(() => image.naturalWidth))).toBe(128);
    await mentor.getByText("What are latents?").first().waitFor();
    await mentor.locator(".answer").first().waitFor({ timeout: 180_000 });
    expect(await mentor.locator(".answer").first().textContent()).toMatch(/latent/);
    await page.context().close();
  });

  test("a picture that is not there says so", async () => {
    const page = await openPage();
    for (const id of ["0".repeat(32), "nonsense", "..%2f..", ""]) {
      await page.goto(`${address}/studio.html#/inside/${id}`);
      await page.reload();
      await page.getByRole("alert").getByText("There is no picture with this address.").waitFor();
      expect(await findViolations(page)).toEqual([]);
    }
    await page.getByRole("alert").getByRole("link", { name: "Open the gallery" }).click();
    await page.waitForURL(/#\/gallery/);
    await page.close();
  });

  test("no violation of accessibility, no sideways scrolling, at three widths, light and dark", async () => {
    const folder = process.env.SCREENSHOTS;
    if (folder) mkdirSync(folder, { recursive: true });
    for (const colorScheme of ["light", "dark"] as const) {
      for (const width of [375, 768, 1440]) {
        const page = await openPage({ viewport: { width, height: 900 }, colorScheme, hasTouch: width < 800 });
        await openTrace(page);
        await panel(page, "map").getByRole("button", { name: "cat", exact: true }).click();
        await panel(page, "map").getByRole("button", { name: "Draw the same seed without “cat”" }).click();
        await panel(page, "map").getByText(/levels on average/).waitFor();
        await page.getByLabel("Steps", { exact: true }).fill("4");
        await page.getByRole("button", { name: "Draw the same seed so" }).click();
        await panel(page, "difference").locator("svg").first().waitFor();
        await page.waitForTimeout(1500);
        await page.evaluate(() => scrollTo({ top: 0, behavior: "instant" })); // the bar that stays lies over what is under it
        if (folder) await page.screenshot({ path: join(folder, `inside-${width}-${colorScheme}.png`), fullPage: true });
        if (folder && width === 1440) {
          for (const name of ["frame", "guidance", "map", "difference"]) {
            await panel(page, name).screenshot({ path: join(folder, `${name}-${colorScheme}.png`) });
          }
          await page.evaluate(() => scrollTo({ top: 0, behavior: "instant" }));
          await page.screenshot({ path: join(folder, `top-${colorScheme}.png`) });
        }
        expect(await findViolations(page), `${width} ${colorScheme}`).toEqual([]);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        expect(wide, `${width}`).toBeLessThanOrEqual(0);
        await page.close();
      }
    }
  });

  test("nothing leaves this machine, and no page met an error", () => {
    expect(outside).toEqual([]);
    expect(faults).toEqual([]);
  });
});
