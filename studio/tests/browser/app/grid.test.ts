/** Grids, in Chromium, against a real server with the bundled model: every cell is asked for once, and three
 * axes become sheets. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page, Route } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launch, runPython, sharedStudio, visit, type Studio } from "./real.ts";

let studio: Studio;
let browser: Browser;
const LONG = 120_000;

beforeAll(async () => {
  [studio, browser] = [await sharedStudio(), await launch()];
}, LONG);
afterAll(() => browser?.close());

interface Job {
  state: string;
  settings: Record<string, unknown>;
  pictures: { id: string; width: number }[];
}

/** The jobs of a prompt, the first that was asked for first. */
async function jobsOf(prompt: string): Promise<Job[]> {
  const { jobs } = (await (await fetch(`${studio.address}/api/jobs?limit=200`)).json()) as { jobs: Job[] };
  return jobs.filter(({ settings }) => String(settings.prompt).includes(prompt)).reverse();
}

const cells = (page: Page) => page.locator("button.cell img");
const leave = (page: Page, view: string) => page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: view }).click();

const folder = mkdtempSync(join(tmpdir(), "grid-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** A picture of the gallery as a file. */
async function keepFile(id: string): Promise<string> {
  const file = join(folder, `${id}.png`);
  writeFileSync(file, Buffer.from(await (await fetch(`${studio.address}/api/pictures/${id}/file`)).arrayBuffer()));
  return file;
}

/** Fills the form of a grid: steps in columns, and seeds in rows. */
async function fill(page: Page, prompt: string, seeds: string, steps = "1"): Promise<void> {
  await page.getByRole("textbox", { name: "Prompt of all cells" }).fill(prompt);
  const values = page.getByRole("textbox", { name: "Values" });
  await values.nth(0).fill(steps);
  await values.nth(1).fill(seeds);
}

/** Holds the request of one cell back. `arrived`: once it is sent; `release` lets it go on; `count`: of all so far. */
async function holdRequest(page: Page, which: number) {
  let [arrive, release] = [() => {}, () => {}];
  const arrived = new Promise<void>((resolve) => (arrive = resolve));
  const released = new Promise<void>((resolve) => (release = resolve));
  const held = { arrived, release, count: 0 };
  await page.route("**/api/generate", async (route: Route) => {
    if (++held.count === which) {
      arrive();
      await released;
    }
    await route.continue();
  });
  return held;
}

test("a grid is left and opened again in the middle: every cell is asked for once", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/grid");
  const held = await holdRequest(page, 3);
  await fill(page, "a grid that is left", "1-8");
  await page.getByRole("button", { name: "Draw 8 cells" }).click();
  await held.arrived;
  await leave(page, "Create");
  await page.getByRole("button", { name: "Draw", exact: true }).waitFor();
  await leave(page, "Grid");
  await expect.poll(() => cells(page).count(), { timeout: LONG }).toBe(2); // those that were asked for
  await leave(page, "Create");
  held.release();
  await leave(page, "Grid");
  await expect.poll(() => cells(page).count(), { timeout: LONG }).toBe(8);
  expect(held.count).toBe(8);
  expect((await jobsOf("a grid that is left")).map(({ settings }) => settings.seed)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("a grid that two windows show is drawn once", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/grid");
  const held = await holdRequest(page, 2);
  await fill(page, "a grid in two windows", "1-8");
  await page.getByRole("button", { name: "Draw 8 cells" }).click();
  await held.arrived;
  const other = await page.context().newPage();
  await other.goto(`${studio.address}/studio.html#/grid`);
  await expect.poll(() => cells(other).count(), { timeout: LONG }).toBe(8);
  held.release();
  await expect.poll(() => cells(page).count(), { timeout: LONG }).toBe(8);
  expect((await jobsOf("a grid in two windows")).length).toBe(8);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("a cell that is on its way when the grid is cancelled is not drawn, and the next grid is", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/grid");
  const held = await holdRequest(page, 1);
  await fill(page, "a grid that is cancelled", "1-3", "50"); // which take a while
  await page.getByRole("button", { name: "Draw 3 cells" }).click();
  await held.arrived;
  await page.getByRole("button", { name: "Cancel" }).click();
  await fill(page, "a grid after it", "1-2");
  await page.getByRole("button", { name: "Draw 2 cells" }).click();
  await expect.poll(() => cells(page).count(), { timeout: LONG }).toBe(2);
  held.release();
  await expect.poll(async () => (await jobsOf("a grid that is cancelled")).map(({ state }) => state), { timeout: LONG }).toEqual(["cancelled"]);
  expect(await cells(page).count()).toBe(2);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

// where each picture lies in a sheet, and the ink of a sheet's parts: [left, top, right, bottom] → its bytes
const FIND = `
import json, sys
import numpy as np
from PIL import Image
sheet, *pictures = [np.asarray(Image.open(file).convert("RGB")) for file in sys.argv[1:]]
def find(picture):
    high, wide = picture.shape[:2]
    corners = np.argwhere((sheet[: 1 - high, : 1 - wide] == picture[0, 0]).all(-1))
    return [(int(x), int(y)) for y, x in corners if (sheet[y : y + high, x : x + wide] == picture).all()]
print(json.dumps({"size": sheet.shape[1::-1], "places": [*map(find, pictures)], "settings": Image.open(sys.argv[1]).info["parameters"]}))
`;
const CUT = `
import base64, json, sys
import numpy as np
from PIL import Image
sheet = Image.open(sys.argv[1]).convert("L")
def cut(box):
    ink = np.asarray(sheet.crop(box)) < 128
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return "" if not len(rows) else repr(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].tolist())
print(json.dumps([*map(cut, json.loads(sys.argv[2]))]))
`;

test("three axes: a table for each value of Z, each cell with its three values, and one file of them all", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/grid");
  await page.getByRole("textbox", { name: "Prompt of all cells" }).fill("a red boat on three axes");
  const axes = page.getByRole("group", { name: /^(Columns|Rows|Sheets)/ });
  for (const [i, [setting, values]] of [["steps", "1, 2"], ["seed", "3-5"], ["prompt:", "red = blue, green"]].entries()) {
    await axes.nth(i).getByRole("combobox", { name: "Setting" }).selectOption(setting);
    await axes.nth(i).getByRole("textbox", { name: "Values" }).fill(values);
  }
  await page.getByRole("button", { name: "Draw 12 cells" }).click();
  await expect.poll(() => cells(page).count(), { timeout: LONG }).toBe(12);

  // what the server was asked, in the order of the cells
  const asked = (await jobsOf("boat on three axes")).map(({ settings: { prompt, seed, steps } }) => [prompt, seed, steps]);
  const wanted = ["blue", "green"].flatMap((colour) => [3, 4, 5].flatMap((seed) => [1, 2].map((steps) => [`a ${colour} boat on three axes`, seed, steps])));
  expect(asked).toEqual(wanted);

  // the page: a table for each sheet, and each picture where its values are
  expect(await page.locator("table caption").allInnerTexts()).toEqual(["a red boat on three axes, blue", "a red boat on three axes, green"]);
  for (const [i, colour] of ["blue", "green"].entries()) {
    const table = page.getByRole("group", { name: `Grid ${colour}` }).getByRole("table");
    expect(await table.locator("thead th").allInnerTexts()).toEqual(["steps 1", "steps 2"]);
    expect(await table.locator("tbody th").allInnerTexts()).toEqual(["seed 3", "seed 4", "seed 5"]);
    const names = [3, 4, 5].flatMap((seed) => [1, 2].map((steps) => `steps ${steps}, seed ${seed}, ${colour}`));
    expect(await table.locator("img").evaluateAll((all) => all.map((one) => (one as HTMLImageElement).alt))).toEqual(names);
    const ids = (await jobsOf("boat on three axes")).slice(6 * i, 6 * i + 6).map(({ pictures: [one] }) => one.id);
    const shown = await table.locator("img").evaluateAll((all) => all.map((one) => (one as HTMLImageElement).src));
    expect(shown.map((source, n) => source.includes(ids[n]))).toEqual(Array(6).fill(true));
  }

  // the file
  const sheet = page.getByRole("button", { name: "Download the sheet" });
  const [download] = await Promise.all([page.waitForEvent("download"), sheet.click()]);
  const file = await download.path();
  const files = (await jobsOf("boat on three axes")).map(({ pictures: [one] }) => keepFile(one.id));
  const { size, places, settings } = JSON.parse(runPython(FIND, file, ...(await Promise.all(files))));
  expect(places.map((found: unknown[]) => found.length)).toEqual(Array(12).fill(1));
  const at = (z: number, y: number, x: number): [number, number] => places[6 * z + 2 * y + x][0];
  const [wide, high] = [128, 128];
  const xs = [0, 1].map((x) => at(0, 0, x)[0]);
  const ys = [0, 1].map((z) => [0, 1, 2].map((y) => at(z, y, 0)[1]));
  for (const [z, rows] of ys.entries()) {
    for (const [y, top] of rows.entries()) for (const [x, left] of xs.entries()) expect(at(z, y, x)).toEqual([left, top]);
  }
  expect(xs[1]).toBeGreaterThanOrEqual(xs[0] + wide);
  for (const [above, below] of [[0, 1], [1, 2]]) for (const rows of ys) expect(rows[below]).toBeGreaterThanOrEqual(rows[above] + high);
  expect(ys[1][0]).toBeGreaterThan(ys[0][2] + high);
  expect(size[0]).toBeGreaterThanOrEqual(xs[1] + wide);
  expect(size[1]).toBeGreaterThanOrEqual(ys[1][2] + high);

  // the labels: those of rows beside them, those of columns over them, and that of a sheet over these
  const beside = ys.flatMap((rows) => rows.map((top) => [0, top, xs[0], top + high]));
  const line = ys[0][0] / 2; // the two lines of labels over a sheet are alike in height
  const over = ys.flatMap(([top]) => xs.map((left) => [left, top - line, left + wide, top]));
  const heads = ys.map(([top]) => [xs[0], top - 2 * line, xs[1] + wide, top - line]);
  const inks: string[] = JSON.parse(runPython(CUT, file, JSON.stringify([...beside, ...over, ...heads])));
  const [rowInks, columnInks, headInks] = [inks.slice(0, 6), inks.slice(6, 10), inks.slice(10)];
  expect(inks.filter((ink) => !ink)).toEqual([]);
  expect(new Set(rowInks).size).toBe(3); // the same three in both sheets
  expect(rowInks.slice(0, 3)).toEqual(rowInks.slice(3));
  expect(new Set(columnInks).size).toBe(2);
  expect(columnInks.slice(0, 2)).toEqual(columnInks.slice(2));
  expect(new Set([...headInks, ...rowInks, ...columnInks]).size).toBe(7);
  expect(settings).toMatch(/X Type: steps, X Values: "1, 2", Y Type: seed, Y Values: 3-5, Z Type: "prompt:red", Z Values: "blue, green"$/);
  if (process.env.SCREENSHOTS) await download.saveAs(join(process.env.SCREENSHOTS, "three-axes.png"));
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);
