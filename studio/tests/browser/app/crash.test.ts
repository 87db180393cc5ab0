/** A server that is killed in the middle of a picture or of a queue: the page loses nothing and draws nothing twice. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { launch, start, visit, type Studio } from "./real.ts";

const LONG = 300_000;
const MANY = 20;
const STEPS = 150; // long enough to be killed in
let studio: Studio;
let browser: Browser;
let folder: string;

beforeAll(async () => (browser = await launch()), LONG);
afterAll(() => browser?.close());
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "fromnoise-crash-"));
  studio = await start(folder);
}, LONG);
afterEach(() => {
  process.kill(studio.pid, "SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

test("killed in the middle of one picture: it is drawn from its beginning, and shown once, without a reload", async () => {
  const { page } = await visit(browser, studio.address, `#/create?prompt=a+cat&count=1&seed=7&steps=${STEPS}`);
  await page.evaluate(() => void ((window as any).same = true)); // eslint-disable-line
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  const step = page.locator(".said", { hasText: new RegExp(`^Step \\d+ of ${STEPS}`) });
  await step.waitFor({ timeout: LONG });
  process.kill(studio.pid, "SIGKILL");
  await page.getByText("The server is away").waitFor({ timeout: 30_000 });
  expect(await page.locator(".tile .open").count()).toBe(0); // it was in the middle
  await step.waitFor(); // and stays on the page
  studio = await start(folder, Number(new URL(studio.address).port));
  await page.locator(".tile .open").waitFor({ timeout: LONG });
  expect([await page.locator(".tile").count(), await page.locator(".strip button").count()]).toEqual([1, 1]);
  await page.getByText("The server is away").waitFor({ state: "detached" });
  expect(await page.evaluate(() => "same" in window)).toBe(true);
  const { jobs: [job, ...others] } = await (await fetch(`${studio.address}/api/jobs?limit=200`)).json();
  expect(others).toEqual([]);
  expect([job.state, job.attempts, job.pictures.map(({ seed }: { seed: string }) => seed)]).toEqual(["done", 2, ["7"]]);
  await page.context().close();
}, LONG);

test("killed in the middle of twenty: all twenty are shown, none twice", async () => {
  const { page } = await visit(browser, studio.address, "#/create?count=1&steps=6");
  const button = page.getByRole("button", { name: "Draw", exact: true });
  for (let i = 0; i < MANY - 4; i++) {
    await page.getByRole("textbox", { name: "Prompt" }).fill(`crash ${i}`);
    await button.click();
  }
  const shown = page.locator(".strip button");
  await expect.poll(() => shown.count(), { timeout: LONG }).toBeGreaterThan(2);
  process.kill(studio.pid, "SIGKILL");
  await page.getByText("The server is away").waitFor({ timeout: 30_000 });
  for (let i = MANY - 4; i < MANY; i++) { // asked for while nobody is there
    await page.getByRole("textbox", { name: "Prompt" }).fill(`crash ${i}`);
    await button.click();
  }
  studio = await start(folder, Number(new URL(studio.address).port));
  await expect.poll(() => shown.count(), { timeout: LONG, interval: 500 }).toBe(MANY);
  const names = await shown.evaluateAll((tiles) => tiles.map((tile) => tile.getAttribute("aria-label")));
  expect(new Set(names)).toEqual(new Set(Array.from({ length: MANY }, (_, i) => `Show: crash ${i}`)));
  const jobs = (await (await fetch(`${studio.address}/api/jobs?limit=200`)).json()).jobs;
  expect(jobs.map(({ state }: { state: string }) => state)).toEqual(Array(MANY).fill("done"));
  const pictures = (await (await fetch(`${studio.address}/api/pictures?limit=200`)).json()).pictures;
  expect(pictures).toHaveLength(MANY);
  expect(await page.getByText("The server is away").count()).toBe(0);
  await page.context().close();
}, LONG);
