/** The engine in Chromium: times, agreement with the Python engine, cancelling, memory, faults. */

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type Browser, type Page } from "playwright-core";
import { build } from "vite";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TabEngine } from "../../src/engine/engine.ts";
import type { PythonWorker } from "../../src/engine/python.ts";
import { serve, type StaticServer } from "./server.ts";

declare const engine: TabEngine; // in the page
declare const python: PythonWorker;

const studio = new URL("../../", import.meta.url).pathname;
const generated = join(studio, "generated");
const built = mkdtempSync(join(tmpdir(), "engine-"));
let server: StaticServer;
let browser: Browser;
let page: Page;

beforeAll(async () => {
  await build({
    root: join(studio, "tests/browser/engine"),
    configFile: false,
    base: "./",
    logLevel: "error",
    worker: { format: "es" },
    build: { outDir: built, emptyOutDir: true, target: "es2022" },
  });
  server = await serve({
    "": built,
    "model/": join(generated, "model"),
    "runtimes/": join(generated, "runtimes"),
    "python/": join(generated, "python"),
  });
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  page = await openPage();
}, 120_000);

afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(built, { recursive: true });
});

async function openPage(): Promise<Page> {
  const opened = await browser.newPage();
  opened.on("pageerror", (error) => console.error(error));
  await opened.goto(server.address);
  await opened.waitForFunction("window.engine");
  return opened;
}

test("loads with progress and says what it runs on", async () => {
  const states = await page.evaluate(async () => {
    const seen: Record<string, { loaded: number; total: number }> = {};
    let falls = 0;
    const begun = performance.now();
    await engine.load(["unet", "text", "decoder", "python"], ({ part, loaded, total }) => {
      if (loaded < (seen[part]?.loaded ?? 0)) falls++;
      seen[part] = { loaded, total };
    });
    const milliseconds = performance.now() - begun;
    return { seen, falls, milliseconds, backend: engine.backend, isolated: crossOriginIsolated };
  });
  console.info(`loading: ${Math.round(states.milliseconds)} ms`, states.backend);
  expect(states.isolated).toBe(true);
  expect(Object.keys(states.seen).sort()).toEqual(["decoder", "python", "text", "unet"]);
  for (const { loaded, total } of Object.values(states.seen)) expect(loaded).toBe(total);
  expect(states.falls).toBe(0);
  expect(states.backend.name).toBe("wasm");
  expect(states.backend.threads).toBeGreaterThanOrEqual(2);
}, 120_000);

test("draws a neon cat in 8 steps as the Python engine does, in time", async () => {
  const drawn = await page.evaluate(async () => {
    const begun = performance.now();
    const run = engine.generate({ prompt: "a neon cat in space", seed: 1, steps: 8 });
    const previews: number[] = [];
    const steps: { index: number; total: number; sigma: number; calls: number }[] = [];
    for (;;) {
      const { done, value } = await run.next();
      if (done) {
        const picture = await engine.decode(value);
        return {
          milliseconds: performance.now() - begun, previews, steps,
          pixels: Array.from(picture.pixels), width: picture.width,
        };
      }
      previews.push(engine.preview(value.x0).pixels.length);
      steps.push({ index: value.index, total: value.total, sigma: value.sigma, calls: value.calls });
    }
  });
  console.info(`8 steps and decoding: ${Math.round(drawn.milliseconds)} ms`);
  expect(drawn.milliseconds).toBeLessThanOrEqual(6000 * crowding());
  expect(drawn.steps.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  expect(drawn.steps.at(-1)).toMatchObject({ sigma: 0, total: 8, calls: 8 });
  expect(drawn.previews).toEqual(Array(8).fill(16 * 16 * 4));
  const want = drawInPython("a neon cat in space", "steps=8");
  const worst = Math.max(...drawn.pixels.map((value, i) => Math.abs(value - want[i])));
  console.info(`largest difference from the Python engine's picture: ${worst} levels`);
  expect(worst).toBeLessThanOrEqual(3); // the bar: packed weights and another arithmetic
}, 120_000);

/** How many times as long things take, because the machine does other work too. */
function crowding(): number {
  return Math.max(1, loadavg()[0] / cpus().length);
}

/** RGBA of the Python engine's picture with seed 1. */
function drawInPython(prompt: string, settings: string): Uint8Array {
  const code =
    "import sys; from fromnoise import load; " +
    `p = load().generate(${JSON.stringify(prompt)}, seed=1, ${settings}); ` +
    "sys.stdout.buffer.write(p.convert('RGBA').tobytes())";
  return execFileSync("python", ["-c", code], { maxBuffer: 2 ** 24 });
}
