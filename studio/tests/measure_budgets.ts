/** The budgets of the studio's page, measured: each figure beside its bar.
 *
 * node tests/measure_budgets.ts [--pictures 10000] [--drawn 200] [--only start,draw,gallery,memory] [--data FOLDER]
 *
 * A server with the bundled model is started on a fresh data folder that holds so many pictures; with
 * --data on one that fill_gallery.py has filled. Times are those of this machine now: the output says
 * how busy it was. OMP_NUM_THREADS: the server's threads. */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import type { Browser, CDPSession, Page } from "playwright-core";
import { ENV, launch, PYTHON, start, type Studio } from "./browser/app/process.ts";

const SECONDS = 60_000; // a step of the measurement that takes longer has failed
const ROUNDS = 5; // of what is measured more than once: the median counts
const SLOWER = 4; // times, of the throttled processor
const NOTCH = 100; // pixels of one notch of a wheel
const GROWTH = 1.1; // of memory that is called flat
const VIEW = { width: 1280, height: 900 };

const { values: given } = parseArgs({
  options: {
    pictures: { type: "string", default: "10000" }, drawn: { type: "string", default: "200" },
    data: { type: "string" }, only: { type: "string", default: "start,draw,gallery,memory" },
  },
});
const [PICTURES, DRAWN] = [Number(given.pictures), Number(given.drawn)];

const rank = (numbers: number[], part: number): number => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length * part)];
const median = (numbers: number[]): number => rank(numbers, 0.5);
const wait = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** One line of the table. */
function tell(what: string, value: number, unit: string, bar?: { most?: number; least?: number }): void {
  const met = !bar || (value <= (bar.most ?? Infinity) && value >= (bar.least ?? -Infinity));
  const said = !bar ? "" : bar.most === undefined ? `≥ ${bar.least}` : `≤ ${Number(bar.most.toFixed(1))}`;
  const number = Number.isInteger(value) ? String(value) : value.toFixed(value < 10 ? 2 : 1);
  const load = loadavg()[0].toFixed(1);
  console.log(`${what.padEnd(58)} ${`${number} ${unit}`.padStart(16)}  ${said.padEnd(8)} ${met ? "   " : "OVER"}  load ${load}`);
}

/** Seconds of the processor so far: which other work of the machine does not stretch as it does times. */
async function readProcessor(browser: Browser, studio: Studio): Promise<Record<string, number>> {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  await session.detach();
  const fields = readFileSync(`/proc/${studio.pid}/stat`, "utf8").split(") ")[1].split(" ");
  const used: Record<string, number> = { server: (Number(fields[11]) + Number(fields[12])) / 100 };
  for (const { type, cpuTime } of processInfo) used[type] = (used[type] ?? 0) + cpuTime;
  return used;
}

/** What was used between two readings, in words. */
const describeUse = (before: Record<string, number>, after: Record<string, number>): string =>
  Object.entries(after).map(([name, seconds]) => `${name} ${(seconds - (before[name] ?? 0)).toFixed(2)}`).join(", ");

async function visit(browser: Browser, studio: Studio, place: string): Promise<{ page: Page; session: CDPSession; close(): Promise<void> }> {
  const context = await browser.newContext({ viewport: VIEW });
  await context.addInitScript(watchTiles);
  const page = await context.newPage();
  page.setDefaultTimeout(SECONDS);
  const session = await context.newCDPSession(page);
  const close = () => context.close();
  if (place) await page.goto(`${studio.address}/studio.html${place}`);
  return { page, session, close };
}

// --- the start of the page

interface Painted {
  largest: number;
  shift: number;
  element: string;
}

/** A first visit with a slow processor: the largest paint and what moved. */
async function measureStart(browser: Browser, studio: Studio, place: string): Promise<Painted> {
  const { page, session, close } = await visit(browser, studio, "");
  await session.send("Emulation.setCPUThrottlingRate", { rate: SLOWER });
  await page.addInitScript(() => {
    const painted = { largest: 0, shift: 0, element: "" };
    Object.assign(window, { painted });
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries() as (PerformanceEntry & { element?: Element })[]) {
        painted.largest = entry.startTime;
        painted.element = `${entry.element?.tagName} ${entry.element?.className}`;
      }
    }).observe({ type: "largest-contentful-paint", buffered: true });
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries() as (PerformanceEntry & { value: number })[]) painted.shift += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  await page.goto(`${studio.address}/studio.html${place}`);
  await page.waitForLoadState("networkidle").catch(() => {}); // the stream of events may keep it busy
  await wait(4_000);
  const painted = await page.evaluate(() => (window as unknown as { painted: Painted }).painted);
  await close();
  return painted;
}

/** The bytes of the scripts that a view needs at its start, packed. */
async function measureScripts(browser: Browser, studio: Studio, place: string): Promise<number> {
  const { page, close } = await visit(browser, studio, "");
  const scripts: Promise<Buffer>[] = [];
  page.on("response", (response) => {
    if (response.request().resourceType() === "script") scripts.push(response.body());
  });
  await page.goto(`${studio.address}/studio.html${place}`);
  await wait(2_000);
  const bytes = (await Promise.all(scripts)).reduce((sum, script) => sum + gzipSync(script, { level: 9 }).length, 0);
  await close();
  return bytes;
}

async function tellStart(browser: Browser, studio: Studio): Promise<void> {
  for (const [name, place] of [["Create", "#/create"], ["Gallery", "#/gallery"]]) {
    const rounds: Painted[] = [];
    for (let i = 0; i < ROUNDS; i++) rounds.push(await measureStart(browser, studio, place));
    tell(`${name}: largest paint, processor ${SLOWER} × slower (median)`, median(rounds.map(({ largest }) => largest)) / 1000, "s", { most: 2.5 });
    tell(`${name}: the same, worst of ${ROUNDS}: ${rounds[0].element.slice(0, 20)}`, Math.max(...rounds.map(({ largest }) => largest)) / 1000, "s");
    tell(`${name}: layout shift, worst of ${ROUNDS}`, Math.max(...rounds.map(({ shift }) => shift)), "", { most: 0 });
    tell(`${name}: scripts at the start, gzip`, (await measureScripts(browser, studio, place)) / 1000, "KB", { most: 150 });
  }
}

// --- drawing

/** From the click on Draw until the first preview and until the picture is there, in seconds. */
async function measureDrawing(page: Page): Promise<{ preview: number; picture: number }> {
  const times = page.evaluate(
    () => new Promise<{ preview: number; picture: number }>((resolve) => {
      const isThere = (image: HTMLImageElement | null) => Boolean(image?.complete && image.naturalWidth);
      const old = document.querySelector<HTMLImageElement>(".tile .open img")?.src;
      let begun = 0;
      let preview = 0;
      addEventListener("click", () => (begun = performance.now()), { once: true, capture: true });
      const look = () => {
        const drawn = document.querySelector<HTMLImageElement>(".tile .open img");
        if (begun && !preview && isThere(document.querySelector("img.preview"))) preview = performance.now();
        if (!begun || !isThere(drawn) || drawn!.src === old) return void requestAnimationFrame(look);
        const now = performance.now();
        resolve({ preview: ((preview || now) - begun) / 1000, picture: (now - begun) / 1000 });
      };
      look();
    }),
  );
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  return times;
}

async function tellDrawing(browser: Browser, studio: Studio): Promise<void> {
  const { page, close } = await visit(browser, studio, "#/create?prompt=a+neon+cat+in+space&count=1");
  await measureDrawing(page); // the first one warms the model
  const rounds = [];
  for (let i = 0; i < ROUNDS; i++) rounds.push(await measureDrawing(page));
  tell("Draw: click until the first preview (median)", median(rounds.map(({ preview }) => preview)), "s", { most: 0.5 });
  tell("Draw: click until the picture (median)", median(rounds.map(({ picture }) => picture)), "s", { most: 2.5 });
  await close();
}

// --- the gallery

/** Seconds from the click on Gallery until the page knows all pictures, and until those in view are there. */
async function measureOpening(browser: Browser, studio: Studio): Promise<{ listed: number; seen: number }> {
  const { page, close } = await visit(browser, studio, "#/create");
  await page.getByRole("button", { name: "Draw", exact: true }).waitFor();
  await wait(500);
  const times = page.evaluate(
    (count) => new Promise<{ listed: number; seen: number }>((resolve) => {
      let begun = 0;
      let listed = 0;
      addEventListener("click", () => (begun = performance.now()), { once: true, capture: true });
      const look = () => {
        const said = document.querySelector(".gallery [role=status]")?.textContent ?? "";
        if (!listed && Number(said.replace(/\D/g, "")) >= count) listed = performance.now();
        if (!listed || !(window as any).areSeen()) return void requestAnimationFrame(look);
        resolve({ listed: (listed - begun) / 1000, seen: (performance.now() - begun) / 1000 });
      };
      look();
    }), PICTURES,
  );
  await page.getByRole("link", { name: "Gallery" }).click();
  const found = await times;
  await close();
  return found;
}

/** Adds `areSeen` to pages: whether all pictures in view are there. */
const watchTiles = () => {
  Object.assign(window, {
    areSeen() {
      const tiles = [...document.querySelectorAll(".grid button")].filter((tile) => {
        const { top, bottom } = tile.getBoundingClientRect();
        return bottom > 56 && top < innerHeight;
      });
      return tiles.length > 8 && tiles.every((tile) => {
        const image = tile.querySelector("img");
        return image?.complete && image.naturalWidth > 0;
      });
    },
  });
};

interface Frames {
  rate: number;
  longest: number;
  late: number;
  way: number;
  settled: number;
}

/** Frames while something scrolls, and how long after it the pictures in view are there. */
async function measureFrames(page: Page, scroll: () => Promise<void>): Promise<Frames> {
  await page.evaluate(() => {
    const times: number[] = [];
    const from = scrollY;
    let going = true;
    const step = (now: number) => (times.push(now), going && requestAnimationFrame(step));
    requestAnimationFrame(step);
    Object.assign(window, { endFrames: () => ((going = false), { times, way: scrollY - from }) });
  });
  await scroll();
  const { times, way } = await page.evaluate(() => (window as any).endFrames());
  const stopped = Date.now();
  await page.waitForFunction(() => (window as any).areSeen(), undefined, { polling: 16, timeout: SECONDS });
  const deltas: number[] = times.slice(1).map((time: number, i: number) => time - times[i]);
  return {
    rate: (1000 * deltas.length) / deltas.reduce((sum, delta) => sum + delta, 0), longest: Math.max(...deltas),
    late: rank(deltas, 0.95), way, settled: (Date.now() - stopped) / 1000,
  };
}

/** notches of a wheel, so many a second. */
async function wheel(page: Page, notches: number, perSecond: number): Promise<void> {
  const begun = Date.now();
  for (let i = 0; i < notches; i++) {
    await page.mouse.wheel(0, NOTCH);
    await wait(Math.max(0, begun + ((i + 1) * 1000) / perSecond - Date.now()));
  }
}

/** So many pixels in every frame. */
const glide = (page: Page, pixels: number, seconds: number): Promise<void> =>
  page.evaluate(
    ([by, milliseconds]) => new Promise<void>((resolve) => {
      const start = performance.now();
      const step = (now: number) => {
        scrollBy({ top: by, behavior: "instant" });
        if (now - start < milliseconds) requestAnimationFrame(step);
        else resolve();
      };
      requestAnimationFrame(step);
    }), [pixels, seconds * 1000],
  );

async function tellGallery(browser: Browser, studio: Studio): Promise<void> {
  const rounds = [];
  const before = await readProcessor(browser, studio);
  for (let i = 0; i < ROUNDS; i++) rounds.push(await measureOpening(browser, studio));
  console.log(`${ROUNDS} openings, seconds of the processor: ${describeUse(before, await readProcessor(browser, studio))}`);
  const number = PICTURES.toLocaleString("en");
  tell(`Gallery: click until ${number} pictures are listed (median)`, median(rounds.map(({ listed }) => listed)), "s", { most: 1 });
  tell("Gallery: click until all thumbnails in view are there (median)", median(rounds.map(({ seen }) => seen)), "s", { most: 1 });

  const { page, session, close } = await visit(browser, studio, "#/gallery");
  await page.waitForFunction(() => (window as any).areSeen());
  await page.mouse.move(VIEW.width / 2, VIEW.height / 2);
  const ways: [string, () => Promise<void>][] = [
    ["wheel, 10 notches a second", () => wheel(page, 80, 10)],
    ["wheel, 30 notches a second", () => wheel(page, 240, 30)],
    ["120 pixels a frame", () => glide(page, 120, 8)],
  ];
  for (const [name, scroll] of ways) {
    const before = await readProcessor(browser, studio);
    const frames = await measureFrames(page, scroll);
    const after = await readProcessor(browser, studio);
    tell(`Gallery, ${name} (${Math.round(frames.way).toLocaleString("en")} pixels)`, frames.rate, "frames/s", { least: 50 });
    console.log(`  seconds of the processor: ${describeUse(before, after)}`);
    tell("  95 % of its frames take at most", frames.late, "ms");
    tell("  its longest frame", frames.longest, "ms");
    tell("  thumbnails in view are there after the stop", frames.settled, "s");
  }
  tell("Gallery: elements in the page", (await readMemory(session)).nodes, "nodes");
  await close();
}

// --- memory

interface Memory {
  heap: number;
  nodes: number;
  listeners: number;
}

async function readMemory(session: CDPSession): Promise<Memory> {
  await session.send("Performance.enable");
  for (let i = 0; i < 3; i++) await session.send("HeapProfiler.collectGarbage");
  const { metrics } = await session.send("Performance.getMetrics");
  const read = (name: string) => metrics.find((metric) => metric.name === name)!.value;
  return { heap: read("JSHeapUsedSize") / 1e6, nodes: read("Nodes"), listeners: read("JSEventListeners") };
}

const readServer = (studio: Studio): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${studio.pid}/status`, "utf8"))![1]) / 1000;

/** Memory after a tenth, half and all of the pictures, drawn one after the other by clicks. It is flat
 * where it grows by a tenth at most from the half on: until then the page fills with the jobs that it keeps. */
async function tellMemory(browser: Browser, studio: Studio): Promise<void> {
  const { page, session, close } = await visit(browser, studio, "#/create?prompt=a+neon+cat+in+space&count=1&steps=4");
  await page.getByRole("button", { name: "Draw", exact: true }).waitFor();
  const looks = [0.1, 0.5, 1].map((part) => Math.ceil(DRAWN * part));
  let half: (Memory & { server: number }) | undefined;
  for (let i = 1; i <= DRAWN; i++) {
    await measureDrawing(page);
    if (!looks.includes(i)) continue;
    await wait(3_000);
    const now = { ...(await readMemory(session)), server: readServer(studio) };
    tell(`Memory after ${i} pictures: heap of the page`, now.heap, "MB", half && { most: half.heap * GROWTH });
    tell(`Memory after ${i} pictures: nodes`, now.nodes, "", half && { most: half.nodes * GROWTH });
    tell(`Memory after ${i} pictures: listeners`, now.listeners, "", half && { most: half.listeners * GROWTH });
    tell(`Memory after ${i} pictures: the server`, now.server, "MB", half && { most: half.server * GROWTH });
    if (i === looks[1]) half = now;
  }
  await close();
}

const PARTS: Record<string, (browser: Browser, studio: Studio) => Promise<void>> = {
  start: tellStart, draw: tellDrawing, gallery: tellGallery, memory: tellMemory,
};

const data = given.data ?? mkdtempSync(join(tmpdir(), "budgets-"));
let studio: Studio | undefined;
let browser: Browser | undefined;
try {
  const fill = [new URL("fill_gallery.py", import.meta.url).pathname, data, String(PICTURES)];
  const filled = given.data ? null : spawnSync(PYTHON, fill, { env: ENV, stdio: "inherit" });
  if (filled?.status) throw new Error("the data folder is not filled");
  console.log(`${availableParallelism()} cores, load of ${loadavg().map((load) => load.toFixed(1)).join(", ")} in 1, 5 and 15 minutes; server with ${ENV.OMP_NUM_THREADS} thread(s)`);
  [studio, browser] = [await start(data), await launch()];
  for (const part of given.only.split(",")) await PARTS[part](browser, studio);
} finally {
  await browser?.close();
  if (studio) process.kill(studio.pid);
  if (!given.data) rmSync(data, { recursive: true, force: true });
}
