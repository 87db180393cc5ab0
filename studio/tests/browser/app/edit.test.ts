/** The editor against the real server and the bundled model: by mouse, by touch and pen, by keyboard.
 *
 * SCREENSHOTS=folder also writes every state as a picture, to be looked at; with EVERY=1 at three widths,
 * light and dark. */

import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Locator, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Mask } from "../../../src/app/edit/mask.ts";
import { findViolations, Studio, type Drawn } from "./studio.ts";

let studio: Studio;
let first: Drawn;
let second: Drawn;

beforeAll(async () => {
  studio = await Studio.start();
  [first, second] = await studio.draw({ prompt: "a red cat in a meadow", seed: 5, count: 2, steps: 4 });
}, 300_000);
afterAll(async () => {
  await studio?.stop();
  expect(studio?.faults).toEqual([]);
});

// --- tools

const room = (page: Page) => page.getByRole("application").first();
const state = (page: Page) => page.locator(".line [role=status]");

/** Where the picture lies on the screen: (its corner, CSS pixels a pixel of it). */
async function measure(page: Page, width: number): Promise<{ x: number; y: number; scale: number }> {
  const box = (await page.locator(".layers").boundingBox())!;
  const exact = await page.locator(".layers").evaluate((element) => {
    const { left, top, width } = element.getBoundingClientRect();
    return { left, top, width };
  });
  expect(box.width).toBeGreaterThan(50);
  return { x: exact.left, y: exact.top, scale: exact.width / width };
}

/** What `look` sees, once two looks in a row see the same. */
async function seeAtRest<T>(look: () => Promise<T>): Promise<T> {
  let last = await look();
  await expect
    .poll(async () => {
      const before = JSON.stringify(last);
      last = await look();
      return before === JSON.stringify(last);
    })
    .toBe(true);
  return last;
}

const measureAtRest = (page: Page, width: number) => seeAtRest(() => measure(page, width));
const boxOf = async (one: Locator) => (await seeAtRest(() => one.boundingBox()))!;

/** Does something that asks for a picture with a mask; the mask as the server keeps it. */
async function catchMask(page: Page, act: () => Promise<unknown>): Promise<{ width: number; height: number; pixels: number[] }> {
  const asked = page.waitForResponse((answer) => answer.url().endsWith("/api/edit"));
  await act();
  const job = (await (await asked).json()) as { settings: { mask: string } };
  const levels = studio.readUpload(job.settings.mask);
  return { ...levels, pixels: levels.pixels.map((level) => (level === 255 ? 1 : level === 0 ? 0 : NaN)) };
}

/** The bytes of a picture, as the browser decodes them. */
function pixelsOf(page: Page, path: string): Promise<{ width: number; height: number; data: number[] }> {
  return page.evaluate(async (path) => {
    const image = await createImageBitmap(await (await fetch(path)).blob(), { colorSpaceConversion: "none" });
    const context = new OffscreenCanvas(image.width, image.height).getContext("2d")!;
    context.drawImage(image, 0, 0);
    return { width: image.width, height: image.height, data: [...context.getImageData(0, 0, image.width, image.height).data] };
  }, path);
}

/** The size of a PNG file, and the settings that it carries. */
function readPng(file: string): { size: [number, number]; text: string } {
  const code = "import json, sys; from PIL import Image; p = Image.open(sys.argv[1]); print(json.dumps({'size': p.size, 'text': p.info['parameters']}))";
  return JSON.parse(execFileSync("python", ["-c", code, file], { encoding: "utf8" }));
}

async function lastJob(): Promise<{ kind: string; settings: Record<string, unknown>; pictures: Drawn[]; state: string }> {
  return (await studio.api<{ jobs: never[] }>("jobs?limit=1")).jobs[0];
}

/** Presses the main button, and waits for the pictures. */
async function draw(page: Page, name: string): Promise<Drawn[]> {
  await page.getByRole("button", { name, exact: true }).click();
  await state(page).filter({ hasText: /done|Done/ }).waitFor({ timeout: 90_000 });
  const job = await lastJob();
  expect(job.state).toBe("done");
  return job.pictures;
}

async function setNumber(field: Locator, value: number): Promise<void> {
  await field.fill(String(value));
  await field.press("Enter");
  await field.blur();
}

async function openDetails(page: Page, name: string): Promise<void> {
  await page.locator("summary", { hasText: name }).click();
}

/** The mask of strokes from place to place, in pixels of the picture. */
function paint(width: number, height: number, diameter: number, places: [number, number][]): number[] {
  const mask = new Mask(width, height);
  const dots = places.map(([x, y]) => ({ x, y, radius: diameter / 2 }));
  dots.forEach((dot, i) => mask.stroke(dots[Math.max(i - 1, 0)], dot, true));
  return [...mask.pixels];
}

// --- the brush

describe("painting over", () => {
  test.each([1, 2])("the server gets each painted pixel, and keeps all others (%i screen pixels a CSS pixel)", async (deviceScaleFactor) => {
    const page = await studio.visit(`#/edit/${first.id}`, { deviceScaleFactor });
    await room(page).waitFor();
    await setNumber(page.getByRole("spinbutton", { name: "Brush size" }), 21);
    const { x, y, scale } = await measure(page, first.width);
    const places: [number, number][] = [[30, 40], [90, 50], [70, 100]];
    const onScreen = places.map(([px, py]) => [Math.round(x + px * scale), Math.round(y + py * scale)]);
    await page.mouse.move(onScreen[0][0], onScreen[0][1]);
    await page.mouse.down();
    for (const [sx, sy] of onScreen.slice(1)) await page.mouse.move(sx, sy, { steps: 9 });
    await page.mouse.up();
    await page.getByRole("textbox", { name: "What to draw there" }).fill("a blue fish");
    const mask = await catchMask(page, () => page.getByRole("button", { name: "Draw in the paint" }).click());
    const exact = onScreen.map(([sx, sy]) => [(sx - x) / scale, (sy - y) / scale] as [number, number]);
    expect([mask.width, mask.height]).toEqual([first.width, first.height]);
    expect(mask.pixels).toEqual(paint(first.width, first.height, 21, exact));
    await page.getByRole("button", { name: /^Results/ }).waitFor({ timeout: 90_000 });
    const job = await lastJob();
    expect(job.settings).toMatchObject({ prompt: "a blue fish", steps: 4, mask_blur: 4 });
    const [before, after] = [await pixelsOf(page, first.file), await pixelsOf(page, job.pictures[0].file)];
    let inside = 0;
    for (let i = 0; i < mask.pixels.length; i++) {
      const same = [0, 1, 2].every((c) => before.data[4 * i + c] === after.data[4 * i + c]);
      if (!mask.pixels[i] && !same) throw new Error(`pixel ${i % first.width}, ${Math.floor(i / first.width)} changed outside of the mask`);
      inside += mask.pixels[i] && !same ? 1 : 0;
    }
    expect(inside).toBeGreaterThan(100);
    await page.context().close();
  }, 120_000);

  test("zoomed and moved, the paint is where the pointer is", async () => {
    const page = await studio.visit(`#/edit/${first.id}`);
    await room(page).waitFor();
    await setNumber(page.getByRole("spinbutton", { name: "Brush size" }), 5);
    const before = await measureAtRest(page, first.width);
    await page.mouse.move(before.x + 100, before.y + 120);
    await page.mouse.wheel(0, -400);
    await expect.poll(async () => (await measure(page, first.width)).scale).toBeGreaterThan(before.scale * 1.3);
    await page.mouse.down({ button: "middle" });
    await page.mouse.move(before.x + 60, before.y + 90, { steps: 4 });
    await page.mouse.up({ button: "middle" });
    const { x, y, scale } = await measureAtRest(page, first.width);
    const box = await boxOf(room(page));
    const at: [number, number] = [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)];
    await page.mouse.click(...at);
    const mask = await catchMask(page, () => page.getByRole("button", { name: "Draw in the paint" }).click());
    expect(mask.pixels).toEqual(paint(first.width, first.height, 5, [[(at[0] - x) / scale, (at[1] - y) / scale]]));
    await page.getByRole("button", { name: "Cancel" }).click().catch(() => undefined); // it may be done already
    await page.context().close();
  }, 60_000);

  test("size by slider, by number and by keys; a rectangle; what is erased is not in the mask", async () => {
    const page = await studio.visit(`#/edit/${second.id}`);
    await room(page).waitFor();
    const number = page.getByRole("spinbutton", { name: "Brush size" });
    const slider = page.getByRole("slider", { name: "Brush size, as a slider" });
    const wanted = new Mask(second.width, second.height);
    const { x, y, scale } = await measureAtRest(page, second.width);
    /** A stroke on the page, and the same in the mask that is wanted. */
    const stroke = async (diameter: number, paint: boolean, ...places: [number, number][]) => {
      const onScreen = places.map(([px, py]) => [Math.round(x + px * scale), Math.round(y + py * scale)]);
      await page.mouse.move(onScreen[0][0], onScreen[0][1]);
      await page.mouse.down();
      for (const [sx, sy] of onScreen.slice(1)) await page.mouse.move(sx, sy);
      await page.mouse.up();
      const dots = onScreen.map(([sx, sy]) => ({ x: (sx - x) / scale, y: (sy - y) / scale, radius: diameter / 2 }));
      dots.forEach((dot, i) => wanted.stroke(dots[Math.max(i - 1, 0)], dot, paint));
    };
    await slider.press("End");
    expect(await number.inputValue()).toBe("128"); // as wide as the picture
    await slider.press("Home");
    expect(await number.inputValue()).toBe("1");
    await stroke(1, true, [10, 10]);
    await slider.fill("60"); // of 100: equal ways are equal ratios
    expect(await number.inputValue()).toBe("18"); // 128 ** 0.6
    expect(await slider.getAttribute("aria-valuetext")).toBe("18 pixels");
    await stroke(18, true, [30, 30]);
    await setNumber(number, 31);
    expect(await slider.getAttribute("aria-valuetext")).toBe("31 pixels");
    await stroke(31, true, [40, 90], [100, 90]);
    await room(page).press("]");
    expect(await number.inputValue()).toBe("39"); // a quarter more
    await room(page).press("[");
    expect(await number.inputValue()).toBe("31");
    const whole = wanted.painted;
    await page.getByRole("radio", { name: "Erase" }).check();
    await setNumber(number, 12);
    await stroke(12, false, [70, 70], [70, 110]);
    expect(wanted.painted).toBeLessThan(whole);
    await room(page).press("e"); // paints again
    expect(await page.getByRole("radio", { name: "Paint" }).isChecked()).toBe(true);
    await stroke(12, true, [70, 90]);
    await page.getByRole("radio", { name: "Rectangle" }).check();
    const corners = [5, 25].map((place) => [x, y + 95 * scale].map((edge) => Math.round(edge + place * scale)));
    await page.mouse.move(corners[0][0], corners[0][1]);
    await page.mouse.down();
    await page.mouse.move(corners[1][0], corners[1][1], { steps: 3 });
    await page.mouse.up();
    const [from, to] = corners.map(([sx, sy]) => [(sx - x) / scale, (sy - y) / scale]);
    wanted.rectangle({ left: Math.floor(from[0]), top: Math.floor(from[1]), right: Math.ceil(to[0]), bottom: Math.ceil(to[1]) }, true);
    await openDetails(page, "By numbers");
    for (const [name, value] of [["Left", 20], ["Top", 20], ["Width", 10], ["Height", 20]] as const) {
      await page.getByRole("spinbutton", { name, exact: true }).fill(String(value));
    }
    await page.getByRole("button", { name: "Erase the rectangle" }).click();
    wanted.rectangle({ left: 20, top: 20, right: 30, bottom: 40 }, false);
    const mask = await catchMask(page, () => page.getByRole("button", { name: "Draw in the paint" }).click());
    expect(mask.pixels).toEqual([...wanted.pixels]);
    await page.context().close();
  }, 60_000);

  test("feather by number and by slider: the mask on the page and the picture are soft at the edge", async () => {
    const page = await studio.visit(`#/edit/${first.id}`);
    await room(page).waitFor();
    await openDetails(page, "By numbers");
    for (const name of ["Left", "Top"]) await page.getByRole("spinbutton", { name, exact: true }).fill("32");
    for (const name of ["Width", "Height"]) await page.getByRole("spinbutton", { name, exact: true }).fill("64");
    await page.getByRole("button", { name: "Paint the rectangle" }).click();
    await page.getByRole("textbox", { name: "What to draw there" }).fill("a blue fish");
    await openDetails(page, "More settings");
    await page.getByRole("textbox", { name: "Seed" }).fill("7");
    await setNumber(page.getByRole("spinbutton", { name: "Strength" }), 1);
    const number = page.getByRole("spinbutton", { name: "Feather" });
    const slider = page.getByRole("slider", { name: "Feather, as a slider" });
    const before = await pixelsOf(page, first.file);
    /** How opaque the mask on the page is, in the middle row, from the left edge of the rectangle on. */
    const row = () => page.locator(".layers canvas").evaluate((canvas: HTMLCanvasElement) => {
      const { data } = canvas.getContext("2d")!.getImageData(0, 64, 64, 1);
      return Array.from({ length: 64 }, (_, i) => data[4 * i + 3]);
    });
    /** Draws; the pixels, of which those outside of the rectangle are as before. */
    const drawWith = async (feather: number): Promise<number[]> => {
      const [picture] = await draw(page, "Draw in the paint");
      expect((await lastJob()).settings).toMatchObject({ mask_blur: feather, seed: 7 });
      const { data } = await pixelsOf(page, picture.file);
      const isInside = (i: number) => [i % 128, i >> 7].every((place) => place >= 32 && place < 96);
      expect(data.filter((value, i) => !isInside(i >> 2) && value !== before.data[i])).toEqual([]);
      await page.getByRole("button", { name: "The picture" }).click();
      return data;
    };
    await setNumber(number, 0);
    await expect.poll(row).toEqual([...Array(32).fill(0), ...Array(32).fill(255)]); // hard
    const hard = await drawWith(0);
    await slider.press("Home");
    for (let i = 0; i < 24; i++) await slider.press("ArrowRight"); // of half a pixel
    expect(await number.inputValue()).toBe("12");
    const soft = await seeAtRest(row);
    expect(soft.slice(0, 32)).toEqual(Array(32).fill(0)); // inwards alone
    expect(soft[32]).toBeGreaterThan(0);
    expect(soft[32]).toBeLessThan(180);
    expect(soft[63]).toBeGreaterThan(soft[44]);
    expect(soft[44]).toBeGreaterThan(soft[32] + 40);
    const feathered = await drawWith(12);
    // how much of the new picture a column has, in the rows where the other edges are far: as the page shows it
    const share = (column: number) => {
      let [product, square] = [0, 0];
      for (let y = 56; y < 72; y++) {
        for (let i = 4 * (y * 128 + column); i < 4 * (y * 128 + column) + 3; i++) {
          const change = hard[i] - before.data[i];
          [product, square] = [product + (feathered[i] - before.data[i]) * change, square + change * change];
        }
      }
      return product / square;
    };
    for (const column of [36, 40, 44, 48, 52, 63]) expect(Math.abs(share(column) - soft[column] / 255), `column ${column}`).toBeLessThan(0.05);
    await page.context().close();
  }, 90_000);

  test("zoom by buttons, by keys and by the wheel: the place under the pointer stays, and the paint hits it", async () => {
    const page = await studio.visit(`#/edit/${second.id}`);
    await room(page).waitFor();
    const fitted = await measureAtRest(page, second.width);
    const percent = page.locator(".bar output");
    const scaleIs = (scale: number) => expect.poll(async () => (await measure(page, second.width)).scale).toBeCloseTo(scale, 3);
    await page.getByRole("button", { name: "Larger" }).click();
    await scaleIs(fitted.scale * 1.25);
    expect(await percent.innerText()).toBe(`${Math.round(fitted.scale * 125)} %`);
    await page.getByRole("button", { name: "Smaller" }).click();
    await scaleIs(fitted.scale);
    await room(page).press("+");
    await room(page).press("+");
    await scaleIs(fitted.scale * 1.25 ** 2);
    await room(page).press("-");
    await scaleIs(fitted.scale * 1.25);
    await page.getByRole("button", { name: "Fit" }).click();
    await scaleIs(fitted.scale);
    await room(page).press("1");
    await scaleIs(1); // a pixel of the screen
    await room(page).press("0");
    await scaleIs(fitted.scale);
    const { x, y, scale } = await measureAtRest(page, second.width);
    const at: [number, number] = [Math.round(x + 100 * scale), Math.round(y + 30 * scale)];
    const place: [number, number] = [(at[0] - x) / scale, (at[1] - y) / scale];
    await page.mouse.move(...at);
    await page.mouse.wheel(0, -300);
    await scaleIs(fitted.scale * Math.exp(0.4)); // 200 pixels of the wheel at most
    await page.mouse.wheel(0, 100);
    await scaleIs(fitted.scale * Math.exp(0.2));
    const zoomed = await measureAtRest(page, second.width);
    expect((at[0] - zoomed.x) / zoomed.scale).toBeCloseTo(place[0], 1);
    expect((at[1] - zoomed.y) / zoomed.scale).toBeCloseTo(place[1], 1);
    await setNumber(page.getByRole("spinbutton", { name: "Brush size" }), 9);
    await page.mouse.click(...at);
    const mask = await catchMask(page, () => page.getByRole("button", { name: "Draw in the paint" }).click());
    const { x: left, y: top, scale: size } = zoomed;
    expect(mask.pixels).toEqual(paint(second.width, second.height, 9, [[(at[0] - left) / size, (at[1] - top) / size]]));
    await page.context().close();
  }, 60_000);

  test("by keyboard alone: brush, rectangle, undo, redo, invert, clear; a reload loses nothing", async () => {
    const page = await studio.visit(`#/edit/${second.id}`);
    await room(page).waitFor();
    const summary = page.locator(".summary");
    await room(page).focus();
    await page.keyboard.press("Enter"); // in the middle
    for (let i = 0; i < 10; i++) await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    const diameter = Number(await page.getByRole("spinbutton", { name: "Brush size" }).inputValue());
    const stroke = paint(second.width, second.height, diameter, [[64.5, 64.5], [74.5, 64.5]]);
    const count = (pixels: number[]) => pixels.reduce((a, b) => a + b).toLocaleString("en");
    await expect.poll(() => summary.innerText()).toContain(`${count(stroke)} pixels are painted`);
    await page.keyboard.press("Control+z");
    await expect.poll(() => summary.innerText()).toContain("Nothing is painted");
    await page.keyboard.press("Control+Shift+z");
    await expect.poll(() => summary.innerText()).toContain(`${count(stroke)} pixels`);
    await page.keyboard.press("i");
    await expect.poll(() => summary.innerText()).toContain(`${(second.width * second.height - stroke.reduce((a, b) => a + b)).toLocaleString("en")} pixels`);
    await page.getByRole("button", { name: "Clear" }).press("Enter");
    await expect.poll(() => summary.innerText()).toContain("Nothing is painted");
    await page.locator("summary", { hasText: "By numbers" }).press("Enter");
    for (const [name, value] of [["Left", 10], ["Top", 20], ["Width", 30], ["Height", 40]] as const) {
      await page.getByRole("spinbutton", { name, exact: true }).fill(String(value));
    }
    await page.getByRole("button", { name: "Paint the rectangle" }).press("Enter");
    await expect.poll(() => summary.innerText()).toContain("columns 10 to 39, rows 20 to 59");
    await page.waitForTimeout(300); // the database has it
    await page.reload();
    await expect.poll(() => summary.innerText()).toContain("1,200 pixels are painted");
    await page.getByRole("button", { name: "Undo" }).press("Enter");
    await expect.poll(() => summary.innerText()).toContain("Nothing is painted");
    await page.getByRole("button", { name: "Redo" }).press("Enter");
    const mask = await catchMask(page, () => page.getByRole("button", { name: "Draw in the paint" }).press("Enter"));
    expect(mask.pixels.filter(Boolean).length).toBe(1200);
    await page.context().close();
  }, 60_000);

  test("touch paints, two fingers zoom; a pen’s pressure is the width", async () => {
    const page = await studio.visit(`#/edit/${second.id}`, { hasTouch: true });
    await room(page).waitFor();
    const summary = page.locator(".summary");
    const { x, y, scale } = await measure(page, second.width);
    const session = await page.context().newCDPSession(page);
    const touch = (type: string, ...points: [number, number][]) =>
      session.send("Input.dispatchTouchEvent", { type: type as never, touchPoints: points.map(([px, py], id) => ({ x: x + px * scale, y: y + py * scale, id })) });
    await touch("touchStart", [20, 20]);
    await touch("touchMove", [60, 20]);
    await touch("touchEnd");
    await expect.poll(() => summary.innerText()).toMatch(/[\d,]+ pixels are painted/);
    const painted = await summary.innerText();
    await touch("touchStart", [50, 64]);
    await touch("touchStart", [50, 64], [80, 64]); // the first finger's dab is taken back
    await touch("touchMove", [40, 64], [90, 64]);
    await touch("touchEnd");
    await expect.poll(async () => (await measure(page, second.width)).scale).toBeGreaterThan(scale * 1.2);
    expect(await summary.innerText()).toBe(painted);
    await page.getByRole("button", { name: "Fit" }).click();
    await page.getByRole("button", { name: "Clear" }).press("Enter");
    let fitted = { x, y, scale };
    const pen = (type: string, px: number, force: number) =>
      session.send("Input.dispatchMouseEvent", { type: type as never, x: Math.round(fitted.x + px * fitted.scale), y: Math.round(fitted.y + 64 * fitted.scale), button: "left", buttons: 1, pointerType: "pen", force, clickCount: 1 });
    const rows = async (force: number) => {
      await page.evaluate(() => scrollTo(0, 0));
      fitted = await measure(page, second.width);
      await pen("mousePressed", 64, force);
      await pen("mouseReleased", 64, force);
      await expect.poll(() => summary.innerText()).toContain("rows");
      const found = /rows (\d+) to (\d+)/.exec(await summary.innerText());
      await page.getByRole("button", { name: "Undo" }).press("Enter");
      return found ? Number(found[2]) - Number(found[1]) + 1 : 0;
    };
    const [light, firm] = [await rows(0.3), await rows(1)];
    expect(light).toBeGreaterThan(0);
    expect(firm).toBeGreaterThan(1.5 * light);
    await page.context().close();
  }, 60_000);

  test("a mask from a file; one of another size says so, and can be stretched", async () => {
    const page = await studio.visit(`#/edit/${second.id}`);
    await room(page).waitFor();
    await openDetails(page, "By numbers");
    const make = (width: number, height: number) => page.evaluate(async ([width, height]) => {
      const canvas = new OffscreenCanvas(width, height);
      const context = canvas.getContext("2d")!;
      context.fillStyle = "#000";
      context.fillRect(0, 0, width, height);
      context.fillStyle = "#fff";
      context.fillRect(0, 0, width / 2, height);
      return [...new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer())];
    }, [width, height] as const);
    const file = page.getByLabel(/A file with the mask/);
    await file.setInputFiles({ name: "m.png", mimeType: "image/png", buffer: Buffer.from(await make(64, 64)) });
    await page.getByRole("alert").filter({ hasText: "64 × 64" }).waitFor();
    await page.getByRole("button", { name: "Stretch it" }).click();
    await expect.poll(() => page.locator(".summary").innerText()).toContain("columns 0 to 63, rows 0 to 127");
    await file.setInputFiles({ name: "m.png", mimeType: "image/png", buffer: Buffer.from("no picture") });
    await page.getByRole("alert").filter({ hasText: "no picture that the browser can read" }).waitFor();
    await page.context().close();
  }, 60_000);

  test("what the server refuses is shown with its remedy; the mask and its undo stay", async () => {
    const page = await studio.visit(`#/edit/${second.id}`);
    await room(page).waitFor();
    await room(page).focus();
    await page.keyboard.press("Enter");
    await page.keyboard.press("Enter");
    await openDetails(page, "More settings");
    await page.getByRole("spinbutton", { name: "Steps" }).fill("500");
    await page.getByRole("spinbutton", { name: "Steps" }).blur();
    await page.getByRole("button", { name: "Draw in the paint" }).click();
    const alert = page.getByRole("alert").filter({ hasText: "500 steps" });
    await alert.waitFor({ timeout: 60_000 });
    expect(await alert.innerText()).toContain("Ask for 150 at most");
    expect(await page.locator(".summary").innerText()).toContain("pixels are painted");
    await page.getByRole("button", { name: "Undo" }).click();
    await expect.poll(() => page.locator(".summary").innerText()).toContain("Nothing is painted");
    await page.context().close();
  }, 60_000);
});

// --- the other tasks

test("extend: by mouse, by keys and by numbers; the old picture stays to the byte", async () => {
  const page = await studio.visit(`#/edit/${first.id}?do=extend`);
  await room(page).waitFor();
  await page.locator("img").first().evaluate((picture: HTMLImageElement) => picture.decode());
  const right = page.getByRole("slider", { name: "Pixels beyond the right edge" });
  const box = await boxOf(right);
  const { width: shown } = await boxOf(page.locator("img").first());
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width / 2 + (shown / first.width) * 37, box.y + box.height / 2, { steps: 5 });
  await page.mouse.up();
  expect(await right.getAttribute("aria-valuenow")).toBe("32"); // 37, at a multiple of 16
  await page.getByRole("slider", { name: "Pixels beyond the top edge" }).press("ArrowUp");
  const left = page.getByRole("spinbutton", { name: "Left" });
  await setNumber(left, 20);
  expect(await left.inputValue()).toBe("16");
  await page.getByText("128 × 128 pixels become 176 × 144").waitFor();
  const [picture] = await draw(page, "Draw the new parts");
  expect([picture.width, picture.height]).toEqual([176, 144]);
  const [before, after] = [await pixelsOf(page, first.file), await pixelsOf(page, picture.file)];
  for (let y = 0; y < 128; y++) {
    const [from, to] = [before.data.slice(y * 512, y * 512 + 512), after.data.slice(((y + 16) * 176 + 16) * 4, ((y + 16) * 176 + 16) * 4 + 512)];
    if (from.join() !== to.join()) throw new Error(`row ${y} of the old picture changed`);
  }
  await page.getByRole("slider", { name: /Where Before ends/ }).press("ArrowRight");
  await page.context().close();
}, 120_000);

test("redraw, vary and enlarge", async () => {
  const page = await studio.visit(`#/edit/${first.id}?do=redraw`);
  await setNumber(page.getByRole("spinbutton", { name: "Strength" }), 0.4);
  expect((await draw(page, "Redraw")).length).toBe(1);
  expect(await lastJob()).toMatchObject({ kind: "edit", settings: { strength: 0.4, prompt: "a red cat in a meadow" } });
  await page.getByRole("link", { name: "Vary" }).click();
  await setNumber(page.getByRole("spinbutton", { name: "Pictures" }), 2);
  expect((await draw(page, "Draw variations")).length).toBe(2);
  expect(await lastJob()).toMatchObject({ kind: "generate", settings: { variation_strength: 0.25, seed: 5 } });
  await page.getByRole("button", { name: "Result 2" }).click();
  await page.getByRole("link", { name: "Enlarge" }).click();
  const [larger] = await draw(page, "Enlarge");
  expect([larger.width, larger.height]).toEqual([256, 256]);
  await page.getByRole("button", { name: "The picture" }).click();
  await page.getByRole("radio", { name: "Draw again in two passes" }).check();
  await setNumber(page.getByRole("spinbutton", { name: "Times larger" }), 1.5);
  const [again] = await draw(page, "Enlarge");
  expect([again.width, again.height]).toEqual([192, 192]);
  expect((await lastJob()).kind).toBe("hires");
  // a picture without a seed of its own is varied from its pixels
  await page.goto(`${studio.address}/studio.html#/edit/${larger.id}?do=vary`);
  await page.getByText("It is redrawn from its pixels instead").waitFor();
  await page.context().close();
}, 180_000);

test("a file of one’s own is edited, and a reload still has it", async () => {
  const page = await studio.visit("#/edit?do=redraw");
  const file = Buffer.from(await (await fetch(studio.address + first.file)).arrayBuffer());
  await page.getByLabel(/Or a file/).setInputFiles({ name: "<b>mine</b>.png", mimeType: "image/png", buffer: file });
  await page.getByText("<b>mine</b>.png").first().waitFor(); // as text
  await page.reload();
  await page.getByText("<b>mine</b>.png").first().waitFor();
  await page.getByRole("textbox", { name: "What to draw" }).fill("a dog");
  expect((await draw(page, "Redraw")).length).toBe(1);
  await page.context().close();
}, 60_000);

test("an address that names no picture says so, and leads to the gallery", async () => {
  for (const id of ["0".repeat(32), "nonsense"]) {
    const page = await studio.visit(`#/edit/${id}`);
    const said = page.getByRole("alert").filter({ hasText: "There is no picture with this address." });
    await said.getByRole("link", { name: "Open the gallery" }).click();
    await page.waitForURL(/#\/gallery/);
    await page.context().close();
  }
}, 60_000);

test("tiling preview and describing", async () => {
  const page = await studio.visit(`#/edit/${first.id}?do=tile`);
  await room(page).waitFor();
  expect(await page.locator(".tiles img").count()).toBe(9);
  await page.getByRole("button", { name: "Show where they meet" }).click();
  expect(await page.locator(".seam").count()).toBe(4);
  await page.getByRole("link", { name: "Describe" }).click();
  await page.getByRole("button", { name: "Describe it" }).click();
  await page.getByRole("button", { name: "Use as the prompt" }).first().waitFor({ timeout: 90_000 });
  const words = await page.locator("tbody td").first().innerText();
  await page.getByRole("button", { name: "Use as the prompt" }).first().click();
  await page.getByRole("link", { name: "Redraw" }).click();
  expect(await page.getByRole("textbox", { name: "What to draw" }).inputValue()).toBe(words);
  await page.context().close();
}, 120_000);

test("two pictures compared: slider, keys, side by side, zoomed together, what differs", async () => {
  const page = await studio.visit(`#/compare/${first.id}`);
  await page.locator(".picker li button").first().click();
  const slider = page.getByRole("slider", { name: /Where First ends/ });
  await slider.press("Home");
  const clip = () => page.locator(".layer").nth(1).evaluate((element) => getComputedStyle(element).clipPath);
  await expect.poll(clip).toContain("100%");
  const divider = await boxOf(page.locator(".divider"));
  await page.mouse.move(divider.x + divider.width / 2, divider.y + 100);
  await page.mouse.down();
  await page.mouse.move(divider.x + divider.width / 2 + 100, divider.y + 100, { steps: 3 });
  await page.mouse.up();
  expect(Number(await slider.inputValue())).toBeGreaterThan(5);
  await page.getByRole("radio", { name: "Side by side" }).check();
  const widths = () => page.locator(".layer img").evaluateAll((all) => all.map((one) => Math.round(one.getBoundingClientRect().width)));
  const [fitted] = await widths();
  await page.getByRole("application").nth(1).press("+");
  await expect.poll(async () => (await widths())[0]).toBeGreaterThan(fitted);
  expect((await widths())[0]).toBe((await widths())[1]);
  await page.context().close();
}, 60_000);

test("a grid: cells as they are drawn, headers, a reload in between", async () => {
  const page = await studio.visit(`#/grid/${first.id}`);
  await expect.poll(() => page.getByRole("textbox", { name: "Prompt of all cells" }).inputValue()).toBe("a red cat in a meadow");
  const values = page.getByRole("textbox", { name: "Values" });
  await values.nth(0).fill("two");
  await page.getByText("“two” is no number").waitFor();
  await values.nth(0).fill("2-4 (+2)");
  await page.getByRole("combobox").nth(1).selectOption("prompt:");
  await values.nth(1).fill("red = blue, green");
  await page.getByRole("button", { name: "Draw 4 cells" }).click();
  await page.locator("table").waitFor();
  await page.reload();
  await expect.poll(() => page.locator("button.cell img").count(), { timeout: 90_000 }).toBe(4);
  expect(await page.locator("thead th").allInnerTexts()).toEqual(["steps 2", "steps 4"]);
  expect(await page.locator("tbody th").allInnerTexts()).toEqual(["blue", "green"]);
  const { jobs } = await studio.api<{ jobs: { settings: { prompt: string; steps: number; seed: number } }[] }>("jobs?limit=4");
  expect(jobs.map(({ settings }) => `${settings.prompt} ${settings.steps} ${settings.seed}`).sort()).toEqual([
    "a blue cat in a meadow 2 5", "a blue cat in a meadow 4 5", "a green cat in a meadow 2 5", "a green cat in a meadow 4 5",
  ]);
  const sheet = page.getByRole("button", { name: "Download the sheet" });
  const [download] = await Promise.all([page.waitForEvent("download"), sheet.press("Enter")]);
  expect(download.suggestedFilename()).toBe("grid.png");
  const { size, text } = readPng(await download.path());
  expect(size[0]).toBeGreaterThan(2 * first.width);
  expect(size[1]).toBeGreaterThan(2 * first.height);
  expect(text).toMatch(/^a blue cat in a meadow\n[^]*Script: X\/Y\/Z plot, X Type: steps, X Values: 2-4 \(\+2\), Y Type: "prompt:red", Y Values: "blue, green"$/);
  if (process.env.SCREENSHOTS) await download.saveAs(join(process.env.SCREENSHOTS, "sheet.png"));
  // one that is too large is refused with what to do about it, and the button works again
  const error = { code: "bad_input", message: "the sheet would have 40000x9000 pixels, more than it may", remedy: "ask for fewer cells" };
  await page.route("**/api/sheet", (route) => route.fulfill({ status: 422, json: { error } }), { times: 1 });
  await sheet.click();
  await page.getByRole("alert").getByText("Ask for fewer cells").waitFor();
  await Promise.all([page.waitForEvent("download"), sheet.click()]);
  await page.locator("button.cell").first().press("Enter");
  await page.getByRole("region", { name: "The chosen cell" }).getByRole("button", { name: "Download" }).waitFor();
  await page.context().close();
}, 120_000);

test("two pictures blended", async () => {
  const page = await studio.visit(`#/edit/${first.id}?do=blend`);
  await page.locator(".picker li button").first().press("Enter");
  await page.getByText(/^The second:/).waitFor();
  await setNumber(page.getByRole("spinbutton", { name: "From the first to the second" }), 0.3);
  expect((await draw(page, "Blend them")).length).toBe(1);
  expect(await lastJob()).toMatchObject({ kind: "blend", settings: { weight: 0.3, steps: 4 } });
  await page.getByRole("slider", { name: /Where Before ends/ }).waitFor();
  await page.context().close();
}, 120_000);

test("a film: key frames, frames, player by keys; motion does not start where it is not wanted", async () => {
  const page = await studio.visit(`#/film/${first.id}`);
  const prompts = page.getByRole("textbox", { name: /Key frame/ });
  await expect.poll(() => prompts.nth(0).inputValue()).toBe("a red cat in a meadow");
  await prompts.nth(1).fill("a blue fish");
  await page.getByRole("button", { name: "Add a key frame" }).click();
  await page.getByRole("button", { name: "Remove" }).last().click();
  await setNumber(page.getByRole("spinbutton", { name: "Frames", exact: true }), 4);
  expect((await draw(page, "Draw the film")).length).toBe(4);
  const play = page.getByRole("button", { name: "Play" });
  await expect.poll(() => play.getAttribute("aria-disabled")).toBe(null);
  const frame = page.getByRole("slider", { name: "Frame", exact: true });
  expect(await frame.inputValue()).toBe("0");
  await frame.press("End");
  expect(await page.getByRole("spinbutton", { name: "Number of the frame" }).inputValue()).toBe("4");
  await play.press("Enter");
  await expect.poll(() => frame.inputValue()).toBe("1");
  await page.getByRole("button", { name: "Pause" }).press("Enter");
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Save as a video" }).click()]);
  expect(download.suggestedFilename()).toMatch(/film\.(webm|mp4)/);
  await page.getByRole("link", { name: "Create", exact: true }).click(); // where a film has words too
  await page.getByRole("button", { name: "Show: a red cat in a meadow, 4 pictures" }).first().waitFor();
  await page.context().close();
}, 120_000);

// --- how it looks, and for whom

const STATES: [string, string, (page: Page) => Promise<unknown>][] = [
  ["inpaint", "#/edit/ID", async (page) => {
    await room(page).focus();
    for (const key of ["Enter", "ArrowRight", "ArrowDown", "Enter"]) await page.keyboard.press(key);
  }],
  ["numbers", "#/edit/ID", async (page) => {
    await openDetails(page, "By numbers");
    await openDetails(page, "More settings");
  }],
  ["extend", "#/edit/ID?do=extend", (page) => page.getByRole("slider", { name: /right edge/ }).press("Shift+ArrowRight")],
  ["redraw", "#/edit/ID?do=redraw", (page) => page.getByRole("button", { name: "Redraw", exact: true }).waitFor()],
  ["vary", "#/edit/ID?do=vary", (page) => page.getByRole("button", { name: "Draw variations" }).waitFor()],
  ["enlarge", "#/edit/ID?do=enlarge", (page) => page.getByRole("radio", { name: /two passes/ }).check()],
  ["results", "#/edit/ID?do=redraw", async (page) => {
    await draw(page, "Redraw");
    await page.getByRole("slider", { name: /Where Before/ }).waitFor();
  }],
  ["tile", "#/edit/ID?do=tile", (page) => room(page).waitFor()],
  ["blend", "#/edit/ID?do=blend", (page) => page.locator(".picker li").first().waitFor()],
  ["describe", "#/edit/ID?do=describe", (page) => page.getByRole("button", { name: "Describe it" }).waitFor()],
  ["choose", "#/edit", (page) => page.locator(".picker li").first().waitFor()],
  ["compare", "#/compare/ID?with=OTHER", (page) => room(page).waitFor()],
  ["beside", "#/compare/ID?with=OTHER", (page) => page.getByRole("radio", { name: "Side by side" }).check()],
  ["grid", "#/grid/ID", (page) => page.getByRole("button", { name: /Draw \d+ cells/ }).waitFor()],
  ["sheet", "#/grid/ID", async (page) => {
    await page.getByRole("textbox", { name: "Values" }).nth(0).fill("2");
    await page.getByRole("textbox", { name: "Values" }).nth(1).fill("1, 2");
    await page.getByRole("button", { name: "Draw 2 cells" }).click();
    await page.getByRole("button", { name: "Download the sheet" }).waitFor({ timeout: 90_000 });
  }],
  ["film", "#/film/ID", (page) => page.getByRole("button", { name: "Draw the film" }).waitFor()],
];
const LOOKS = process.env.EVERY
  ? (["light", "dark"] as const).flatMap((scheme) => [375, 768, 1440].map((width) => [scheme, width] as const))
  : ([["light", 1440], ["dark", 375]] as const);

test.each(STATES)("%s: no violation, nothing wider than the window", async (name, place, act) => {
  for (const [colorScheme, width] of LOOKS) {
    const page = await studio.visit(place.replace("ID", first.id).replace("OTHER", second.id), { colorScheme, viewport: { width, height: 900 } });
    await act(page);
    await page.evaluate(() => scrollTo(0, 0)); // the head of the page covers what is under it
    await page.waitForTimeout(200);
    expect(await findViolations(page), `${name} ${colorScheme} ${width}`).toEqual([]);
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), `${name} ${width}`).toBeLessThanOrEqual(0);
    if (process.env.SCREENSHOTS) {
      mkdirSync(process.env.SCREENSHOTS, { recursive: true });
      await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}-${width}-${colorScheme}.png`), fullPage: true });
    }
    await page.context().close();
  }
}, 300_000);
