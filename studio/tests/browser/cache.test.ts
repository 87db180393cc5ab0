/** The service worker in Chromium: isolation on a plain host, the next visit without a connection,
 * and never a mix of two builds. */

import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type Browser, type BrowserContext } from "playwright-core";
import { build } from "vite";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeFileList } from "../../build/files.ts";
import type { TabEngine } from "../../src/engine/engine.ts";
import { serve, type StaticServer } from "./server.ts";

declare const engine: TabEngine; // in the page

const studio = new URL("../../", import.meta.url).pathname;
const site = mkdtempSync(join(tmpdir(), "cache-"));
let server: StaticServer;
let browser: Browser;

/** A site of two pages and three files. `word` is in every one of them. */
function writeSite(word: string): void {
  const page =
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Test</title>' +
    `<p>${word}</p><script type="module">navigator.serviceWorker.register("service-worker.js")</script>`;
  mkdirSync(join(site, "model"), { recursive: true });
  mkdirSync(join(site, "content"), { recursive: true });
  writeFileSync(join(site, "index.html"), page);
  writeFileSync(join(site, "other.html"), page);
  writeFileSync(join(site, "content/data.json"), JSON.stringify(word));
  writeFileSync(join(site, "content/late.json"), JSON.stringify(word));
  writeFileSync(join(site, "model/unet.pack"), word.repeat(1000));
  writeFileList(site);
}

beforeAll(async () => {
  await build({
    configFile: false,
    logLevel: "error",
    build: {
      outDir: site,
      emptyOutDir: false,
      rolldownOptions: {
        input: { "service-worker": join(studio, "src/service-worker.ts") },
        output: { entryFileNames: "[name].js" },
      },
    },
  });
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
}, 60_000);

afterAll(async () => {
  await browser?.close();
  rmSync(site, { recursive: true });
});

const read = (path: string) =>
  fetch(path).then(async (response) => [response.status, (await response.text()).slice(0, 12)]);

async function openSite(context: BrowserContext) {
  const page = await context.newPage();
  await page.goto(server.address);
  await page.evaluate(async () => {
    await navigator.serviceWorker.ready;
    while (!navigator.serviceWorker.controller) await new Promise((done) => setTimeout(done, 20));
  });
  await page.reload();
  return page;
}

test("isolates pages, keeps files for a visit without a connection, and does not mix builds", async () => {
  writeSite("first");
  server = await serve({ "": site }, { isolated: false, prefix: "deep/site/" });
  const context = await browser.newContext();
  const page = await openSite(context);
  expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
  expect(await page.evaluate(read, "content/data.json")).toEqual([200, '"first"']);
  expect(await page.evaluate(read, "model/unet.pack?abc")).toEqual([200, "firstfirstfi"]);
  expect(await page.evaluate(read, "content/none.json")).toEqual([404, ""]);

  // while the build is the same, a visit asks for its name alone
  const count = (name: string) => server.requests.filter((path) => path.endsWith(name)).length;
  const before = [count("build.txt"), count("files.json")];
  await page.reload();
  expect([count("build.txt"), count("files.json")]).toEqual([before[0] + 1, before[1]]);

  // the host gets another build, while the page stays open
  writeSite("second");
  expect(await page.evaluate(read, "content/data.json")).toEqual([200, '"first"']); // kept
  const [status, text] = await page.evaluate(read, "content/late.json"); // never seen before
  expect([status, text]).toEqual([503, "The site was"]);

  // a page that opens now is of the new build, with all its files
  const newer = await context.newPage();
  await newer.goto(server.address + "other.html");
  expect(await newer.textContent("p")).toBe("second");
  expect(await newer.evaluate(read, "content/data.json")).toEqual([200, '"second"']);
  expect(await newer.evaluate(read, "content/late.json")).toEqual([200, '"second"']);
  expect(await page.evaluate(read, "content/data.json")).toEqual([200, '"first"']);

  // without the host, everything that was seen is still there
  await expect.poll(() => newer.evaluate(read, "model/unet.pack")).toEqual([200, "secondsecond"]);
  await page.close();
  await server.close();
  await newer.reload();
  expect(await newer.textContent("p")).toBe("second");
  expect(await newer.evaluate(() => crossOriginIsolated)).toBe(true);
  expect(await newer.evaluate(read, "content/data.json")).toEqual([200, '"second"']);
  expect(await newer.evaluate(read, "model/unet.pack")).toEqual([200, "secondsecond"]);
  await context.close();
}, 90_000);

test("the engine has threads on a plain host from the second load on, and needs no host then", async () => {
  const folder = mkdtempSync(join(tmpdir(), "engine-"));
  await build({
    root: join(studio, "tests/browser/engine"),
    configFile: false,
    base: "./",
    logLevel: "error",
    worker: { format: "es" },
    build: { outDir: folder, emptyOutDir: true, target: "es2022" },
  });
  for (const name of ["model", "runtimes", "python"]) {
    cpSync(join(studio, "generated", name), join(folder, name), { recursive: true });
  }
  cpSync(join(site, "service-worker.js"), join(folder, "service-worker.js"));
  writeFileList(folder);
  server = await serve({ "": folder }, { isolated: false });
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(server.address);
  await page.evaluate(async () => {
    await navigator.serviceWorker.register("service-worker.js");
    while (!navigator.serviceWorker.controller) await new Promise((done) => setTimeout(done, 20));
  });
  const draw = async () => {
    await page.reload();
    await page.waitForFunction("window.engine");
    return await page.evaluate(async () => {
      const run = engine.generate({ prompt: "a cat", seed: 1, steps: 1 });
      while (!(await run.next()).done);
      return engine.backend.threads;
    });
  };
  expect(await draw()).toBe(2);
  await page.waitForFunction(async () => {
    const cache = await caches.open((await caches.keys())[0]);
    const kept = (await cache.keys()).map(({ url }) => url);
    return ["unet.pack", "ort-wasm-simd-threaded.wasm.packed", "pyodide.asm.wasm.packed"].every((name) =>
      kept.some((url) => url.endsWith(name)),
    );
  });
  await server.close();
  expect(await draw()).toBe(2); // all from the cache
  await context.close();
  rmSync(folder, { recursive: true });
}, 180_000);
