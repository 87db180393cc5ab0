/** The engine in Chromium: times, agreement with the Python engine, cancelling, memory, faults. */

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type Browser, type Page } from "playwright-core";
import { build } from "vite";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TabEngine } from "../../src/engine/engine.ts";
import type { GenerationRequest } from "../../src/engine/types.ts";
import type { PythonWorker } from "../../src/engine/python.ts";
import { expectPace } from "../pace.ts";
import { serve, type StaticServer } from "./server.ts";

declare const engine: TabEngine; // in the page
declare const python: PythonWorker;

const studio = new URL("../../", import.meta.url).pathname;
const generated = join(studio, "generated");
const built = mkdtempSync(join(tmpdir(), "engine-"));
const folders = {
  "": built,
  "model/": join(generated, "model"),
  "runtimes/": join(generated, "runtimes"),
  "python/": join(generated, "python"),
};
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
  server = await serve(folders);
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  page = await openPage();
}, 120_000);

afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(built, { recursive: true });
});

async function openPage(address = server.address): Promise<Page> {
  const opened = await browser.newPage();
  opened.on("pageerror", (error) => console.error(error));
  await opened.goto(address);
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
  expectPace("8 steps and decoding", drawn.milliseconds, 6000);
  expect(drawn.steps.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  expect(drawn.steps.at(-1)).toMatchObject({ sigma: 0, total: 8, calls: 8 });
  expect(drawn.previews).toEqual(Array(8).fill(16 * 16 * 4));
  const want = drawInPython("a neon cat in space", "steps=8");
  const worst = Math.max(...drawn.pixels.map((value, i) => Math.abs(value - want[i])));
  console.info(`largest difference from the Python engine's picture: ${worst} levels`);
  expect(worst).toBeLessThanOrEqual(3); // the bar: packed weights and another arithmetic
}, 120_000);

/** RGBA of the Python engine's picture with seed 1. */
function drawInPython(prompt: string, settings: string): Uint8Array {
  const code =
    "import sys; from fromnoise import load; " +
    `p = load().generate(${JSON.stringify(prompt)}, seed=1, ${settings}); ` +
    "sys.stdout.buffer.write(p.convert('RGBA').tobytes())";
  return execFileSync("python", ["-c", code], { maxBuffer: 2 ** 24 });
}

/** RGBA of the tab's picture with seed 1. */
function drawInTab(request: Omit<GenerationRequest, "seed">): Promise<number[]> {
  return page.evaluate(async (settings) => {
    const run = engine.generate({ seed: 1, ...settings });
    for (;;) {
      const { done, value } = await run.next();
      if (done) return Array.from((await engine.decode(value)).pixels);
    }
  }, request);
}

// Each draws its noise in another way: at every step, from a Brownian path, not at all with
// guidance that asks for both pictures. The weights in the tab are rounded, so that a long run of a
// picture without noise may end a few levels elsewhere.
test.each([
  ["euler_a", "red mushroom in a forest", 6],
  ["dpmpp_2m_sde", "two blue whales", 6],
  ["ddim_cfg_pp", "a pink unicorn", 6],
])("%s draws as the Python engine does", async (sampler, prompt, steps) => {
  const cfg = sampler.endsWith("cfg_pp") ? 0.8 : 3;
  const got = await drawInTab({ prompt, steps, sampler, cfg });
  const want = drawInPython(prompt, `steps=${steps}, sampler="${sampler}", cfg=${cfg}`);
  const errors = got.map((value, i) => Math.abs(value - want[i]));
  console.info(`${sampler}: at most ${Math.max(...errors)} levels`);
  expect(Math.max(...errors)).toBeLessThanOrEqual(3);
}, 120_000);

test("a sampler of the reader's own draws the picture of the same file", async () => {
  const file = join(studio, "../src/fromnoise/diffusion/samplers/heun.py");
  const code = { source: readFileSync(file, "utf8"), function: "heun" };
  const settings = { prompt: "a green cactus", steps: 3 };
  expect(await drawInTab({ ...settings, code })).toEqual(
    await drawInTab({ ...settings, sampler: "heun" }),
  );
}, 60_000);

test("cancels at once, and goes on with the next request", async () => {
  const late = await page.evaluate(async () => {
    const times: number[] = [];
    for (const after of [0, 60, 500]) {
      const controller = new AbortController();
      const run = engine.generate({ prompt: "a cat", seed: 1, steps: 20 }, controller.signal);
      let aborted = 0;
      setTimeout(() => ((aborted = performance.now()), controller.abort()), after);
      try {
        for await (const _ of run);
        throw new Error("it was not cancelled");
      } catch (error) {
        if ((error as Error).name !== "AbortError") throw error;
        times.push(performance.now() - aborted);
      }
    }
    const controller = new AbortController();
    const decoding = engine.decode(engine.noise(1, 4096), controller.signal);
    controller.abort();
    const name = await decoding.then(() => "none", (error: Error) => error.name);
    const picture = await engine.decode(engine.noise(1, 4096));
    return { times, name, width: picture.width };
  });
  expectPace("cancelling", Math.max(...late.times), 200);
  expect(late.name).toBe("AbortError");
  expect(late.width).toBe(128);
}, 60_000);

test("encodes, embeds and looks inside", async () => {
  const seen = await page.evaluate(async () => {
    const { context } = await engine.encodeText("a neon cat in space");
    const x = engine.noise(3, 4096).map((value) => value * 5);
    const plain = await engine.predict(x, 5, context);
    const looked = await engine.predict(x, 5, context, { maps: true });
    const maps = Object.values(looked.maps!);
    const sums = maps.map(({ data, tokens }) => data.slice(0, tokens).reduce((a, b) => a + b, 0));
    const picture = await engine.decode(plain.x0);
    const latents = await engine.encode(picture);
    const [image, text] = [await engine.embedPicture(picture), await engine.embedText("a cat")];
    return {
      difference: Math.max(...plain.x0.map((value, i) => Math.abs(value - looked.x0[i]))),
      tokens: maps.map(({ tokens }) => tokens),
      sums,
      latents: latents.length,
      lengths: [image, text].map((vector) => Math.hypot(...vector)),
      scale: engine.clipScale,
      words: engine.tokenize("a neon cat").words.slice(0, 5),
    };
  });
  expect(seen.difference).toBeLessThanOrEqual(1e-4); // the same weights in another graph
  expect(seen.tokens).toEqual(Array(7).fill(32));
  for (const sum of seen.sums) expect(sum).toBeCloseTo(1, 4); // attention of a pixel over all tokens
  expect(seen.latents).toBe(4096);
  for (const length of seen.lengths) expect(length).toBeCloseTo(1, 5);
  expect(seen.scale).toBeCloseTo(89.67, 1);
  expect(seen.words).toEqual(["<|startoftext|>", "a", "neon", "cat", "<|endoftext|>"]);
}, 60_000);

test("what cannot be drawn is refused in words", async () => {
  const fail = (request: Omit<GenerationRequest, "seed">) =>
    drawInTab(request).then(() => "drawn", (error: Error) => error.message);
  expect(await fail({ prompt: "a (cat:1.3)" })).toContain("plain words");
  expect(await fail({ prompt: "cat ".repeat(40) })).toContain("Shorten");
  expect(await fail({ prompt: "cat", sampler: "none" })).toContain("Choose one of");
  expect(await fail({ prompt: "cat", options: { order: 3 } })).toContain("no option order");
});

test("an endless loop in Python ends, and Python starts anew", async () => {
  const seen = await page.evaluate(async () => {
    const head = "from fromnoise.diffusion.samplers.base import Query\ndef mine(x, sigmas, noise):\n";
    const sample = (body: string, seconds: number) =>
      python
        .sample({ source: head + body, function: "mine" }, new Float64Array(4), [1, 0], (x) => x, { seconds })
        .then(() => null, (error) => ({ name: error.kind, line: error.line }));
    // one line that never ends cannot be left from inside: its worker is stopped
    const hard = await sample("    yield Query(x, 1.0, 0)\n    sum(iter(int, 1))\n", 1);
    const samplers = await python.samplers();
    const deep = await sample("    mine2 = lambda: mine2()\n    mine2()\n    yield Query(x, 1.0, 0)\n", 5);
    const away = await sample("    import js\n    js.fetch('x')\n    yield Query(x, 1.0, 0)\n", 5);
    const soft = await sample("    yield Query(x, 1.0, 0)\n    while True:\n        pass\n", 1);
    return { hard, soft, deep, away, count: samplers.length };
  });
  expect(seen.hard).toEqual({ name: "OutOfTime", line: 4 });
  expect(seen.soft!.name).toBe("OutOfTime");
  expect(seen.deep).toEqual({ name: "RecursionError", line: 3 });
  expect(seen.away!.line).toBe(4); // the reader's code has no way to the network
  expect(seen.count).toBe(47);
}, 90_000);

test("keeps below 1 GB of memory", async () => {
  const used = readMemory();
  console.info(`largest process of the page: ${Math.round(used / 1e6)} MB`);
  expect(used).toBeLessThan(1e9);
});

test("without isolation it runs on one thread", async () => {
  const plain = await serve(folders, { isolated: false });
  const other = await openPage(plain.address);
  const backend = await other.evaluate(async () => {
    await engine.load(["decoder"]);
    await engine.decode(engine.noise(1, 4096));
    return engine.backend;
  });
  expect(backend).toMatchObject({ name: "wasm", threads: 1 });
  await other.close();
  await plain.close();
}, 60_000);

test("a missing or damaged file is told with a remedy, and a later try succeeds", async () => {
  const other = await serve(folders);
  other.missing.add("model/decoder.pack");
  const opened = await openPage(other.address);
  const load = () =>
    opened.evaluate(() => engine.load(["decoder"]).then(() => "loaded", (error: Error) => error.message));
  expect(await load()).toMatch(/decoder\.pack is missing.*make site/);
  other.missing.clear();
  expect(await load()).toBe("loaded");
  await opened.close();
  await other.close();
}, 60_000);

/** The resident bytes of the largest process of this browser: the page with its workers. */
function readMemory(): number {
  const parents = new Map<string, string>();
  const sizes = new Map<string, number>();
  for (const id of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const status = readFileSync(`/proc/${id}/status`, "utf8");
      parents.set(id, /PPid:\s+(\d+)/.exec(status)![1]);
      sizes.set(id, 1024 * Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0));
    } catch {
      // it ended meanwhile
    }
  }
  const isOurs = (id: string | undefined): boolean =>
    id !== undefined && (id === String(process.pid) || isOurs(parents.get(id)));
  return Math.max(...[...sizes].filter(([id]) => id !== String(process.pid) && isOurs(id)).map(([, size]) => size));
}
