/** A server that wants a token: it is asked for once, and then everything works, also what a browser fetches by itself.
 *
 * SCREENSHOTS=folder also writes the form at three widths, light and dark, to be looked at. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Locator, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { checkAccess, launch, runPython, start, visit, type Studio } from "./real.ts";

const LONG = 180_000;
const TITLE = "This server asks for a token";
const HASTE = "from fromnoise.serve.safety import tokens; tokens.FRESH = 0.2"; // it knows soon which tokens are gone
const folder = mkdtempSync(join(tmpdir(), "fromnoise-login-"));
let studio: Studio;
let browser: Browser;
let token: string;

/** `fromnoise serve token …`; the first line that it prints. */
const changeTokens = (...words: string[]) => runPython(
  "import sys; from pathlib import Path; from fromnoise.serve.command import change_tokens;"
  + "print(list(change_tokens(sys.argv[2:], Path(sys.argv[1]), '', None, None))[0])",
  folder, "token", ...words,
).trim();

beforeAll(async () => {
  token = changeTokens("add", "ann");
  [studio, browser] = [await start(folder, 0, HASTE), await launch()];
}, LONG);
afterAll(async () => {
  await browser?.close();
  if (studio) process.kill(studio.pid, "SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

const form = (page: Page) => page.getByRole("dialog", { name: TITLE });
/** That a picture was loaded, not only asked for. */
const isLoaded = (image: Locator) => expect.poll(() => image.evaluate((one: HTMLImageElement) => one.complete && one.naturalWidth)).toBeGreaterThan(0);
/** Without the answers of 401, which a browser writes down. */
const rest = (faults: string[]) => faults.filter((fault) => !fault.includes("401"));

async function signIn(page: Page, secret = token): Promise<void> {
  await form(page).getByLabel("Token").fill(secret);
  await page.keyboard.press("Enter");
  await form(page).waitFor({ state: "detached" });
}

/** Waits until the server knows a page's cookie no more. */
const isStranger = (page: Page) =>
  expect.poll(async () => (await (await page.context().request.get(`${studio.address}/api/session`)).json()).signed_in).toBe(false);

test("by keyboard: asked for a token, told of a wrong one, in by the right one", async () => {
  for (const colorScheme of ["light", "dark"] as const) {
    const { page, faults } = await visit(browser, studio.address, "#/create", { colorScheme });
    await form(page).waitFor();
    await expect.poll(() => page.evaluate(() => document.activeElement?.getAttribute("type"))).toBe("password");
    await checkAccess(page);
    for (let i = 0; i < 3; i++) await page.keyboard.press("Escape");
    await page.keyboard.press("Enter");
    await form(page).getByText("Write the token first.").waitFor();
    await page.keyboard.type("fn_wrong");
    await page.keyboard.press("Enter");
    await form(page).getByRole("alert").getByText("This server does not know that token.").waitFor();
    await checkAccess(page);
    await page.keyboard.type(token); // over the wrong one, which is selected
    await page.keyboard.press("Tab");
    await page.keyboard.press("Space");
    await form(page).waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Sign out" }).waitFor();
    await checkAccess(page);
    expect(await page.evaluate(() => document.cookie)).toBe(""); // out of reach of scripts
    const [cookie] = await page.context().cookies();
    expect(cookie).toMatchObject({ name: "fromnoise_session", httpOnly: true, sameSite: "Strict", path: "/" });
    expect(cookie.value).not.toContain(token);
    expect(rest(faults)).toEqual([]);
    await page.context().close();
  }
}, LONG);

test("signed in, everything works: drawing, previews, thumbnails, files, the zip file and the traces", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+quux+cat&steps=12&count=1");
  await form(page).waitFor();
  await signIn(page);
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await page.locator("img.preview").first().waitFor({ timeout: LONG });
  await page.locator(".tile .open").first().waitFor({ timeout: LONG });
  await isLoaded(page.locator(".tile .open img").first());

  await page.goto(`${studio.address}/studio.html#/gallery`);
  await page.reload();
  const tiles = page.getByRole("group", { name: "Pictures", exact: true });
  await isLoaded(tiles.getByRole("img").or(tiles.locator("img")).first());
  const [zip] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Zip" }).click()]);
  expect(readFileSync(await zip.path()).subarray(0, 2).toString()).toBe("PK");
  await tiles.getByRole("button").first().click();
  const dialog = page.getByRole("dialog", { name: "Picture" });
  await isLoaded(dialog.locator("img").first());
  const [file] = await Promise.all([page.waitForEvent("download"), dialog.getByRole("button", { name: "Download" }).click()]);
  expect(readFileSync(await file.path()).subarray(1, 4).toString()).toBe("PNG");
  await dialog.getByRole("button", { name: /Look inside/ }).click();
  await page.getByText("Drawn again from its settings").waitFor({ timeout: LONG });
  await isLoaded(page.locator(".inside header img"));

  await page.getByRole("button", { name: "Sign out" }).click();
  await form(page).waitFor();
  expect(await page.context().cookies()).toEqual([]);
  expect(await page.evaluate(() => JSON.stringify(localStorage))).not.toContain("quux"); // what was written is gone
  await page.reload();
  await form(page).waitFor();
  expect(await page.getByText("quux").count()).toBe(0);
  await signIn(page);
  await isLoaded(page.locator(".tile .open img").first()); // the picture is still there
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("two pages: who signs in in one is asked no more in the other", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/gallery");
  await form(page).waitFor();
  const other = await page.context().newPage();
  await other.goto(`${studio.address}/studio.html#/create`);
  await form(other).waitFor();
  await signIn(other);
  await page.evaluate(() => dispatchEvent(new Event("focus"))); // as when a person comes back to it
  await form(page).waitFor({ state: "detached" });
  expect(rest(faults)).toEqual([]);
  await page.context().close();
}, LONG);

test("a token that is taken back: the next request asks again, and then goes on", async () => {
  const second = changeTokens("add", "bob");
  const { page } = await visit(browser, studio.address, "#/create?prompt=a+cat&steps=2&count=1");
  await form(page).waitFor();
  await page.route("**/api/events", () => {}); // a stream that says nothing: the request is the first to learn of it
  await signIn(page, second);
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  changeTokens("remove", "bob");
  await isStranger(page);
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await form(page).waitFor();
  await page.unroute("**/api/events");
  await signIn(page);
  await page.reload(); // the stream that said nothing is gone
  await page.locator(".tile .open").first().waitFor({ timeout: LONG }); // what was asked for is drawn
  await page.context().close();
}, LONG);

test("a token that is taken back while nobody does anything: the form comes by itself, and nothing that was typed is lost", async () => {
  const second = changeTokens("add", "cid");
  const { page, faults } = await visit(browser, studio.address, "#/create");
  await signIn(page, second);
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  await page.getByLabel("Prompt", { exact: true }).fill("a cat that nobody has sent");
  changeTokens("remove", "cid");
  await form(page).waitFor();
  await signIn(page);
  await expect.poll(() => page.getByLabel("Prompt", { exact: true }).inputValue()).toBe("a cat that nobody has sent");
  await page.getByText("The server is away").waitFor({ state: "detached" }); // it is followed again
  expect(rest(faults)).toEqual([]);
  await page.context().close();
}, LONG);

test("two pages: who signs out in one is asked again in the other", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create");
  await signIn(page);
  const other = await page.context().newPage();
  await other.goto(`${studio.address}/studio.html#/gallery`);
  await other.getByRole("button", { name: "Sign out" }).waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await form(page).waitFor();
  await form(other).waitFor();
  expect(rest(faults)).toEqual([]);
  await page.context().close();
}, LONG);

test("the form fits a phone", async () => {
  const shots = process.env.SCREENSHOTS;
  if (shots) mkdirSync(shots, { recursive: true });
  for (const width of [375, 768, 1440]) {
    for (const colorScheme of ["light", "dark"] as const) {
      const { page } = await visit(browser, studio.address, "#/create", { viewport: { width, height: 800 }, colorScheme });
      await form(page).waitFor();
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
      if (shots) await page.screenshot({ path: join(shots, `login-${width}-${colorScheme}.png`) });
      await signIn(page);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
      await page.getByRole("button", { name: "Sign out" }).waitFor();
      if (shots) await page.waitForTimeout(500);
      if (shots) await page.screenshot({ path: join(shots, `signed-in-${width}-${colorScheme}.png`) });
      await page.context().close();
    }
  }
}, LONG);
