/** A long session: more jobs than the page keeps. */

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launch, sharedStudio, visit, type Studio } from "./real.ts";

let studio: Studio;
let browser: Browser;
const LONG = 480_000; // beside other work; alone it takes 20 s
const CELLS = 50;
const KEPT = 40; // jobs that the page keeps after their end, as jobs.svelte.ts says

beforeAll(async () => {
  [studio, browser] = [await sharedStudio(), await launch()];
}, LONG);
afterAll(() => browser?.close());

test("the page forgets jobs that ended long ago; a grid keeps all of its own", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/grid");
  const values = page.getByRole("textbox", { name: "Values" });
  await values.nth(0).fill("1");
  await values.nth(1).fill(`1-${CELLS}`);
  await page.getByRole("button", { name: `Draw ${CELLS} cells` }).click();
  const cells = page.locator("button.cell img");
  await expect.poll(() => cells.count(), { timeout: LONG }).toBe(CELLS);

  const views = page.getByRole("navigation", { name: "Views" });
  await views.getByRole("link", { name: "Create" }).click();
  await page.locator(".tile .open").first().click();
  const dialog = page.getByRole("dialog", { name: "Picture" });
  const seed = dialog.getByRole("row", { name: /^seed/ }).getByRole("cell");
  expect(await seed.innerText()).toBe(String(CELLS));
  for (let i = 0; i < CELLS; i++) await page.keyboard.press("ArrowRight");
  expect(await seed.innerText()).toBe(String(CELLS - KEPT + 1));
  await page.keyboard.press("Escape");

  await views.getByRole("link", { name: "Grid" }).click();
  await expect.poll(() => cells.count()).toBe(CELLS);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);
