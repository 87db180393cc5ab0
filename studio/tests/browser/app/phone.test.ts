/** The studio where the window is narrow: what a person comes for is in view. Sliders and numbers at any width. */

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { draw, launch, sharedStudio, visit, type Studio } from "./real.ts";

let studio: Studio;
let browser: Browser;
const LONG = 120_000;
const PHONE = { viewport: { width: 375, height: 740 }, hasTouch: true, isMobile: true };

beforeAll(async () => {
  [studio, browser] = [await sharedStudio(), await launch()];
}, LONG);
afterAll(() => browser?.close());

test("the current view and the current task are seen in their rows", async () => {
  const { pictures } = await draw(studio.address, { prompt: "a cat" });
  const { page } = await visit(browser, studio.address, `#/edit/${pictures[0].id}?do=describe`, PHONE);
  for (const [row, link] of [["What to do with the picture", "Describe"], ["Views", "Edit"]]) {
    const current = page.getByRole("navigation", { name: row }).getByRole("link", { name: link, exact: true });
    await expect.poll(() => current.evaluate((one) => {
      const { left, right } = one.getBoundingClientRect();
      return document.elementFromPoint((left + right) / 2, one.getBoundingClientRect().top + 8) === one && right <= innerWidth;
    })).toBe(true);
  }
  await page.goto(`${studio.address}/studio.html#/film`);
  const film = page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: "Film" });
  await expect.poll(() => film.evaluate((one) => one.getBoundingClientRect().right <= innerWidth - 48)).toBe(true);
  await page.context().close();
}, LONG);

test("the editor begins with the picture, and shows the results when they are there", async () => {
  const { pictures } = await draw(studio.address, { prompt: "a cat" });
  const { page, faults } = await visit(browser, studio.address, `#/edit/${pictures[0].id}?do=vary`, PHONE);
  const [picture, button] = [page.getByRole("figure").getByRole("img"), page.getByRole("button", { name: "Draw variations" })];
  const topOf = async (one: typeof button) => (await one.boundingBox())!.y;
  await picture.waitFor();
  expect(await topOf(picture)).toBeLessThan(await topOf(button));
  await page.getByLabel("Pictures", { exact: true }).fill("1");
  await button.click();
  const results = page.getByRole("button", { name: "Results (1)" });
  await results.waitFor({ timeout: LONG });
  await expect.poll(() => results.evaluate((one) => {
    const { top, bottom } = one.getBoundingClientRect();
    return top > 0 && bottom < innerHeight;
  })).toBe(true);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("numbers count while they are written", async () => {
  const { pictures } = await draw(studio.address, { prompt: "a cat" });
  const { page } = await visit(browser, studio.address, `#/edit/${pictures[0].id}?do=extend`, PHONE);
  const [field, button] = [page.getByLabel("Right", { exact: true }), page.getByRole("button", { name: "Draw the new parts" })];
  await field.click();
  await field.press("Control+a");
  for (const [digit, text] of [["1", "1"], ["2", "12"], ["8", "128"]]) {
    await field.press(digit);
    expect(await field.inputValue()).toBe(text); // it is not changed under the hands
  }
  await page.getByText("128 × 128 pixels become 256 × 128.").waitFor();
  expect(await button.getAttribute("aria-disabled")).toBe(null);
  await field.press("Control+a");
  await page.keyboard.type("70");
  await field.press("Tab");
  expect(await field.inputValue()).toBe("64"); // the nearest that the model can draw
  await page.context().close();
}, LONG);

test.each([375, 1280])("every slider has a number field that moves it, also at %i px", async (width) => {
  const { pictures } = await draw(studio.address, { prompt: "a cat", count: 2 });
  const [{ id }, { id: other }] = pictures;
  const places = [
    "#/create?hires_scale=2", "#/film", `#/compare/${id}?with=${other}`, `#/inside/${id}`,
    ...["inpaint", "extend", "redraw", "vary", "enlarge", "blend"].map((task) => `#/edit/${id}?do=${task}`),
  ];
  let count = 0;
  for (const place of places) {
    const { page } = await visit(browser, studio.address, place, { viewport: { width, height: 740 } });
    await page.locator("main input[type=range]").first().waitFor({ state: "attached", timeout: LONG });
    await page.evaluate(() => document.querySelectorAll("main details").forEach((one) => ((one as HTMLDetailsElement).open = true)));
    for (const slider of await page.locator("main input[type=range]:visible").all()) {
      const field = slider.locator("xpath=ancestor::*[.//input[@type='number']][1]").locator("input[type=number]:visible");
      const name = `${place}: ${await slider.getAttribute("aria-label")}`;
      expect(await field.count(), name).toBe(1);
      const [least, most] = await field.evaluate((one: HTMLInputElement) => [Number(one.min), Number(one.max)]);
      if (most === least) continue; // a run of one step
      const before = await slider.inputValue();
      const wanted = least + 0.7 * (most - least);
      await field.fill(most > 1 ? String(Math.floor(wanted)) : wanted.toFixed(2));
      await field.press("Tab");
      expect(await slider.inputValue(), name).not.toBe(before);
      count += 1;
    }
    await page.context().close();
  }
  expect(count).toBeGreaterThan(15);
}, LONG);
