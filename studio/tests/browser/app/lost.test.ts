/** What the page does when the server does not have what it waits for, and what it lets go of in time. */

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { draw, launch, makePng, sharedStudio, visit, type Studio } from "./real.ts";

const LONG = 120_000;
const GONE = "The server no longer has this job.";
let studio: Studio;
let browser: Browser;

beforeAll(async () => {
  [studio, browser] = [await sharedStudio(), await launch()];
}, LONG);
afterAll(() => browser?.close());

/** The answers to requests of a kind name a job that the server never had, as after a start with other data.
 * many: how many of them. */
async function pretend(page: Page, path: string, settings: object, many: number): Promise<void> {
  let asked = 0;
  await page.route(path, async (route) => {
    if (asked++ >= many) return route.continue();
    const id = String(asked).padStart(32, "0");
    const job = {
      id, number: 1_000_000 + asked, kind: "generate", state: "queued", settings, priority: 0, attempts: 0, step: 0, total: 0, ahead: 0, warnings: [],
      error: null, created: Date.now() / 1000, pictures: [], model: "fromnoise", events: `/api/jobs/${id}/events`,
    };
    await route.fulfill({ status: 202, json: job });
  });
}
const rest = (faults: string[]): string[] => faults.filter((fault) => !fault.includes("404"));

test("Create tells it, and shows the other pictures again", async () => {
  await draw(studio.address, { prompt: "a whale", steps: 1 });
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+lost+cat");
  await pretend(page, "**/api/generate", { prompt: "a lost cat", count: 1 }, 1);
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await page.getByRole("alert").filter({ hasText: GONE }).getByText("Ask for it again.").waitFor({ timeout: LONG });
  await page.locator(".tile .open").first().waitFor();
  expect(await page.locator(".tile .waits").count()).toBe(0);
  expect(rest(faults)).toEqual([]);
  await page.context().close();
}, LONG);

test("the editor tells it, and can ask again", async () => {
  const { pictures: [picture] } = await draw(studio.address, { prompt: "a whale", steps: 1 });
  const { page, faults } = await visit(browser, studio.address, `#/edit/${picture.id}?do=describe`);
  await pretend(page, "**/api/describe", { image: picture.hash }, 1);
  const button = page.getByRole("button", { name: "Describe it" });
  await button.click();
  await page.getByRole("alert").getByText(GONE).first().waitFor({ timeout: LONG });
  await button.click();
  await page.locator("tbody td").first().waitFor({ timeout: LONG });
  expect(rest(faults)).toEqual([]);
  await page.context().close();
}, LONG);

test("a grid tells it in its cells, and draws the others", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/grid");
  await pretend(page, "**/api/generate", { prompt: "", count: 1 }, 6); // as many as wait together
  const values = page.getByRole("textbox", { name: "Values" });
  await values.nth(0).fill("1");
  await values.nth(1).fill("1-8");
  await page.getByRole("button", { name: "Draw 8 cells" }).click();
  await expect.poll(() => page.locator(".fault", { hasText: GONE }).count(), { timeout: LONG }).toBe(6);
  await expect.poll(() => page.locator("button.cell img").count(), { timeout: LONG }).toBe(2);
  await page.getByRole("button", { name: /^Draw \d+ cells$/ }).waitFor(); // nothing is under way any more
  expect(rest(faults)).toEqual([]);
  await page.context().close();
}, LONG);

test("a look inside tells it", async () => {
  const { pictures: [picture] } = await draw(studio.address, { prompt: "a whale", steps: 1 });
  const { page, faults } = await visit(browser, studio.address, "#/create");
  await page.route("**/inside", async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ json: { ...(await answer.json()), ready: false, job: { ...(await answer.json()).job, id: "f".repeat(32) } } });
  });
  await page.goto(`${studio.address}/studio.html#/inside/${picture.id}`);
  await page.getByRole("alert").getByText(GONE).first().waitFor({ timeout: LONG });
  expect(rest(faults)).toEqual([]);
  await page.context().close();
}, LONG);

test("files that are shown no more are let go of", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/learn");
  await page.addInitScript(() => {
    const open = new Set<string>();
    const [make, revoke] = [URL.createObjectURL, URL.revokeObjectURL];
    URL.createObjectURL = (blob) => {
      const address = make.call(URL, blob);
      open.add(address);
      return address;
    };
    URL.revokeObjectURL = (address) => (open.delete(address), revoke.call(URL, address));
    Object.assign(window, { open });
  });
  const count = () => page.evaluate(() => (window.open as unknown as Set<string>).size);
  const file = (name: string) => ({ name: `${name}.png`, mimeType: "image/png", buffer: makePng("Title", name) });
  await page.goto(`${studio.address}/studio.html#/edit?do=blend`);
  await page.reload();
  const picker = page.locator(".picker input[type=file]");
  await picker.setInputFiles(file("one"));
  await page.getByText("The first: one.png").waitFor();
  expect(await count()).toBe(1);
  await picker.setInputFiles(file("two"));
  await page.getByText("The second: two.png").waitFor();
  expect(await count()).toBe(2);
  await page.getByRole("button", { name: "Choose another" }).click();
  await expect.poll(count).toBe(1);
  await picker.setInputFiles(file("three"));
  await page.getByText("The second: three.png").waitFor();
  await page.getByRole("link", { name: "Edit" }).click(); // another first one
  await picker.waitFor();
  await picker.setInputFiles(file("four"));
  await page.getByText("four.png").first().waitFor();
  await expect.poll(count).toBe(1);
  await page.getByRole("link", { name: "Learn" }).click();
  await expect.poll(count).toBe(0);
  await page.goBack(); // the browser has kept the file
  await page.getByText("four.png").first().waitFor();
  expect(await count()).toBe(1);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);
