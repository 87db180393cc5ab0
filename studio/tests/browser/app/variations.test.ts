/** From one picture to the next, in Chromium, against a real server with the bundled model: four at once, one of
 * them varied or enlarged; two passes; from a picture of one's own. */

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launch, makePng, runPython, sharedStudio, visit, type Studio } from "./real.ts";

let studio: Studio;
let browser: Browser;
const LONG = 120_000;

beforeAll(async () => {
  [studio, browser] = [await sharedStudio(), await launch()];
}, LONG);
afterAll(() => browser?.close());

interface Job {
  id: string;
  kind: string;
  state: string;
  settings: Record<string, unknown>;
  pictures: { id: string; seed: string; width: number; height: number; hash: string; index: number }[];
}
const file = (id: string) => `/api/pictures/${id}/file`;
/** The upload that a job starts from, as the server keeps it. */
function upload({ settings }: Job): string {
  const hash = String(settings.image);
  return pathToFileURL(join(studio.data, "uploads", hash.slice(0, 2), `${hash}.png`)).href;
}

const PIXELS = `
import io, json, sys, urllib.request
import numpy as np
from PIL import Image
first, *others = [np.asarray(Image.open(io.BytesIO(urllib.request.urlopen(url).read())).convert("RGB")).astype(float) for url in sys.argv[1:]]
print(json.dumps({"far": [abs(one - first).mean() for one in others], "levels": np.unique(first).tolist()}))
`;
const look = (...places: string[]) => JSON.parse(runPython(PIXELS, ...places.map((place) => new URL(place, studio.address).href)));
/** How far pictures are from the first one, as the mean difference of levels. */
const compare = (...places: string[]): number[] => look(...places).far;
const levels = (place: string): number[] => look(place).levels;

/** Does something that asks for pictures; the job once it is done. */
async function ask(page: Page, kind: string, act: () => Promise<unknown>): Promise<Job> {
  const asked = page.waitForResponse((answer) => answer.url() === `${studio.address}/api/${kind}`);
  await act();
  const { id } = (await (await asked).json()) as Job;
  const read = async () => (await (await fetch(`${studio.address}/api/jobs/${id}`)).json()) as Job;
  await expect.poll(async () => (await read()).state, { timeout: LONG }).toBe("done");
  return read();
}

const draw = (page: Page, kind: string) => ask(page, kind, () => page.getByRole("button", { name: "Draw", exact: true }).click());

/** Waits until the stage shows these pictures, in this order. */
async function seeOnStage(page: Page, job: Job): Promise<void> {
  const shown = () => page.locator(".tile .open img").evaluateAll((all) => all.map((one) => new URL((one as HTMLImageElement).src).pathname));
  await expect.poll(shown, { timeout: LONG }).toEqual(job.pictures.map(({ id }) => file(id)));
}

test("four at once: one is varied and one enlarged by the buttons under it, and the results name it", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+blue+boat&steps=2&count=4&seed=20");
  const four = await draw(page, "generate");
  expect(four.pictures.map(({ seed }) => seed)).toEqual(["20", "21", "22", "23"]);
  await seeOnStage(page, four);

  const under = (n: number) => page.getByRole("group", { name: `With picture ${n}` });
  const varied = await ask(page, "generate", () => under(3).getByRole("button", { name: "Vary" }).click());
  expect(varied.settings).toMatchObject({ prompt: "a blue boat", steps: 2, count: 4, seed: 22, variation_strength: 0.25 });
  expect(varied.settings.variation_seed).not.toBe(null);
  await seeOnStage(page, varied);
  await page.getByRole("button", { name: /^Open picture 2/ }).click();
  const dialog = page.getByRole("dialog", { name: "Picture" });
  expect(await dialog.getByRole("row", { name: /^seed/ }).getByRole("cell").innerText()).toBe("22"); // of the picture that was varied
  expect(await dialog.getByRole("row", { name: /^variation strength/ }).getByRole("cell").innerText()).toBe("0.25");
  await page.keyboard.press("Escape");
  // each is another picture, near to the one that was varied: nearer than its neighbours of the other seeds
  const [source, ...others] = [2, 0, 1, 3].map((i) => four.pictures[i]);
  const far = compare(...[source, ...varied.pictures, ...others].map(({ id }) => file(id)));
  expect(far.every((distance) => distance > 0)).toBe(true);
  expect(Math.max(...far.slice(0, 4))).toBeLessThan(Math.min(...far.slice(4)));

  await page.getByRole("button", { name: /^Show: a blue boat, 4 pictures/ }).nth(1).click();
  await seeOnStage(page, four);
  await under(2).getByRole("button", { name: "Enlarge" }).click();
  await page.waitForURL(new RegExp(`#/edit/${four.pictures[1].id}\\?do=enlarge$`));
  await page.getByRole("heading", { name: "Edit", level: 1 }).waitFor();
  const larger = await ask(page, "upscale", () => page.getByRole("button", { name: "Enlarge", exact: true }).click());
  expect(larger.settings).toMatchObject({ scale: 2 });
  expect(compare(upload(larger), file(four.pictures[1].id))).toEqual([0]); // its pixels were sent
  expect([larger.pictures[0].width, larger.pictures[0].height]).toEqual([256, 256]);
  await page.getByRole("slider", { name: /Where Before ends/ }).waitFor();
  const compared = await page.locator(".layer img").evaluateAll((all) => all.map((one) => new URL((one as HTMLImageElement).src).pathname));
  expect(new Set(compared)).toEqual(new Set([file(four.pictures[1].id), file(larger.pictures[0].id)]));
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("two passes from Create: the second one larger, with its own strength", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+small+boat&steps=2&count=1&seed=5");
  await page.locator("summary", { hasText: "Two passes" }).press("Enter");
  await page.getByRole("spinbutton", { name: "Scale" }).fill("1.5");
  await page.getByRole("spinbutton", { name: "Change" }).fill("0.4");
  const larger = await draw(page, "hires");
  expect(larger).toMatchObject({ kind: "hires", settings: { prompt: "a small boat", seed: 5, steps: 2, hires_scale: 1.5, hires_strength: 0.4 } });
  expect([larger.pictures[0].width, larger.pictures[0].height]).toEqual([192, 192]);
  await seeOnStage(page, larger);
  await page.getByRole("button", { name: "One pass" }).click();
  const plain = await draw(page, "generate");
  expect(plain.settings).not.toHaveProperty("hires_scale");
  expect([plain.pictures[0].width, plain.pictures[0].height]).toEqual([128, 128]);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("from a picture of one’s own: it is uploaded, and the strength says how far the next one is from it", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+red+boat&steps=4&count=1&seed=5");
  await page.locator("summary", { hasText: "Start from a picture" }).press("Enter");
  await page.getByLabel(/PNG, JPEG or WebP; or drop it/).setInputFiles({ name: "grey.png", mimeType: "image/png", buffer: makePng("Title", "grey") });
  await page.getByText("The picture is uploaded.").waitFor();
  const far: number[] = [];
  for (const strength of [0.25, 1]) {
    await page.getByRole("spinbutton", { name: "Change" }).fill(String(strength));
    const drawn = await draw(page, "edit");
    expect(drawn).toMatchObject({ kind: "edit", settings: { prompt: "a red boat", seed: 5, steps: 4, strength } });
    await seeOnStage(page, drawn);
    far.push(...compare(upload(drawn), file(drawn.pictures[0].id)));
    expect(levels(upload(drawn))).toEqual([128]); // the grey picture
  }
  expect(far[0]).toBeLessThan(far[1] / 2);
  await page.getByRole("button", { name: "Leave it out" }).click();
  expect((await draw(page, "generate")).settings).not.toHaveProperty("image");
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);
