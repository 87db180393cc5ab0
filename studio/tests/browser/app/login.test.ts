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

/** `fromnoise serve token …` with `--scope …`; the first line that it prints. */
const changeTokensOf = (scopes: string[], ...words: string[]) => runPython(
  "import sys; from pathlib import Path; from fromnoise.serve.command import change_tokens;"
  + "print(list(change_tokens(sys.argv[3:], Path(sys.argv[1]), '', sys.argv[2].split(), None))[0])",
  folder, scopes.join(" "), "token", ...words,
).trim();
const changeTokens = (...words: string[]) => changeTokensOf([], ...words);

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

/** The addresses of a page's requests that wait for their answer, without the stream of events. */
function followRequests(page: Page): Set<string> {
  const open = new Set<string>();
  page.on("request", (request) => void (request.resourceType() !== "eventsource" && open.add(request.url())));
  for (const name of ["requestfinished", "requestfailed"] as const) page.on(name as "requestfinished", (request) => void open.delete(request.url()));
  return open;
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
  // a stream that says nothing: the request is the first to learn of it
  await page.evaluate(() => (window.EventSource = class extends EventTarget { readyState = 0; close() {} } as never));
  const open = followRequests(page);
  await Promise.all([page.waitForResponse(/api\/words/), signIn(page, second)]);
  await expect.poll(() => [...open]).toEqual([]); // what the form asks for by itself is answered
  changeTokens("remove", "bob");
  await isStranger(page);
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await form(page).waitFor();
  await signIn(page);
  await page.reload(); // with a stream
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

/** A page of who has a token of these scopes, and every answer of 4xx and 5xx that it gets. */
async function visitWith(scopes: string[], hash: string): Promise<{ page: Page; faults: string[]; open: Set<string> }> {
  const secret = changeTokensOf(scopes, "add", `only-${scopes.join("-")}`);
  const { page, faults } = await visit(browser, studio.address, hash);
  page.on("response", (answer) => void (answer.status() >= 400 && faults.push(`${answer.status()} ${answer.url()}`)));
  const open = followRequests(page);
  await signIn(page, secret);
  return { page, faults, open };
}

const view = (page: Page, name: string) => page.getByRole("navigation", { name: "Views" }).getByRole("link", { name, exact: true }).click();
const lacks = (page: Page, scope: string) => page.getByText(`Your token is not for ${scope}, which this view needs.`);
/** That a view is shown whole: its requests are answered, and its access is checked. */
async function checkView({ page, open }: { page: Page; open: Set<string> }, heading: string | RegExp): Promise<void> {
  await page.getByRole("heading", { level: 1, name: heading, exact: true }).waitFor();
  await expect.poll(() => [...open]).toEqual([]);
  await checkAccess(page);
}

test("a token that only draws: pictures are drawn and shown, and each view says what it is not for", async () => {
  const visited = await visitWith(["draw"], "#/create?prompt=a+cat&steps=2&count=1");
  const { page, faults } = visited;
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await isLoaded(page.locator(".tile .open img").first());
  await page.getByText("not marked, deleted, compared or looked into").click();
  await page.getByText("fromnoise serve token add NAME --scope draw --scope gallery").waitFor();
  await checkView(visited, "Create");
  await page.locator(".tile .open").first().click();
  const dialog = page.getByRole("dialog", { name: "Picture" });
  await isLoaded(dialog.locator("img").first());
  for (const name of ["Delete", "Compare", "Look inside", "☆ Favourite"]) expect(await dialog.getByRole("button", { name, exact: true }).count(), name).toBe(0);
  await page.keyboard.press("Delete"); // nor by key
  await page.keyboard.press("f");
  await checkAccess(page);
  const [file] = await Promise.all([page.waitForEvent("download"), dialog.getByRole("button", { name: "Download" }).click()]);
  expect(readFileSync(await file.path()).subarray(1, 4).toString()).toBe("PNG");
  await dialog.getByRole("button", { name: "Use its settings" }).click();
  await page.locator(".tile .open").first().click();
  await dialog.getByRole("button", { name: "Edit", exact: true }).click();
  await checkView(visited, /./);
  const id = /edit\/([0-9a-f]+)/.exec(page.url())![1];

  await view(page, "Gallery");
  await lacks(page, "gallery").waitFor();
  await checkView(visited, "Gallery");
  await page.goto(`${studio.address}/studio.html#/compare/${id}`);
  await lacks(page, "gallery").waitFor();
  await checkView(visited, "Compare");
  await page.goto(`${studio.address}/studio.html#/inside/${id}`);
  await lacks(page, "gallery").waitFor();
  await checkView(visited, "Look inside");
  await page.goto(`${studio.address}/studio.html#/edit`);
  await page.getByText("A file can be opened here, and a picture from Create").waitFor();
  await checkView(visited, /./);
  await view(page, "Grid");
  await checkView(visited, "Grid");
  await page.getByRole("textbox", { name: "Values" }).first().fill("2");
  await page.getByRole("textbox", { name: "Values" }).nth(1).fill("1");
  await page.getByRole("button", { name: "Draw 1 cell" }).click();
  const [sheet] = await Promise.all([page.waitForEvent("download", { timeout: LONG }), page.getByRole("button", { name: "Download the sheet" }).click({ timeout: LONG })]);
  expect(readFileSync(await sheet.path()).subarray(1, 4).toString()).toBe("PNG");
  await view(page, "Film");
  await checkView(visited, "Film");
  await view(page, "Learn");
  await checkView(visited, "Learn how it works");
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("a token that only looks: the gallery works, and each view says what it is not for", async () => {
  const whole = changeTokensOf(["draw", "gallery"], "add", "only-gallery");
  for (const prompt of ["a cat", "a dog"]) {
    const asked = await fetch(`${studio.address}/api/generate`, {
      method: "POST", headers: { "content-type": "application/json", authorization: `Bearer ${whole}` }, body: JSON.stringify({ prompt, steps: 2 }),
    });
    expect(asked.status).toBe(202);
    const { events } = await asked.json();
    await (await fetch(studio.address + events, { headers: { authorization: `Bearer ${whole}` } })).text(); // until it is drawn
  }
  changeTokens("remove", "only-gallery");
  const visited = await visitWith(["gallery"], "#/gallery");
  const { page, faults } = visited;
  const tiles = page.getByRole("group", { name: "Pictures", exact: true });
  await isLoaded(tiles.locator("img").first());
  await page.getByText("not drawn, changed or looked into").waitFor();
  await checkView(visited, "Gallery");
  await tiles.getByRole("button").first().click();
  const dialog = page.getByRole("dialog", { name: "Picture" });
  await isLoaded(dialog.locator("img").first());
  for (const name of ["Use its settings", "Vary", "Edit", "Enlarge", "Blend", "Describe", "Look inside"]) expect(await dialog.getByRole("button", { name, exact: true }).count(), name).toBe(0);
  await page.keyboard.press("v"); // nor by key
  await dialog.getByRole("button", { name: "☆ Favourite" }).click();
  await dialog.getByRole("button", { name: "★ Favourite" }).waitFor();
  await checkAccess(page);
  await dialog.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Undo" }).click();
  await page.keyboard.press("Escape");
  await expect.poll(() => tiles.getByRole("button").count()).toBe(2);
  await tiles.getByRole("button").first().click();
  await dialog.getByRole("button", { name: "Compare" }).click();
  await page.getByRole("heading", { name: "Choose what to compare it with" }).waitFor();
  await page.locator(".picker li button").first().click();
  await page.getByText("Settings that differ").waitFor();
  await checkView(visited, "Compare");
  const id = /compare\/([0-9a-f]+)/.exec(page.url())![1];

  for (const name of ["Create", "Edit", "Grid", "Film"]) {
    await view(page, name);
    await lacks(page, "draw").waitFor();
    await page.getByText("fromnoise serve token add NAME --scope gallery --scope draw").waitFor();
    await checkView(visited, name);
  }
  await page.goto(`${studio.address}/studio.html#/inside/${id}`);
  await lacks(page, "draw").waitFor();
  await checkView(visited, "Look inside");
  await view(page, "Learn");
  await checkView(visited, "Learn how it works");
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("another token that does less: what the page then shows and asks for is that one's", async () => {
  const less = changeTokensOf(["gallery"], "add", "less");
  const visited = await visitWith(["draw", "gallery"], "#/create");
  const { page, faults } = visited;
  await page.getByRole("button", { name: "Draw", exact: true }).waitFor();
  changeTokens("remove", "only-draw-gallery");
  await form(page).waitFor();
  await signIn(page, less);
  await lacks(page, "draw").waitFor();
  await view(page, "Gallery");
  await page.getByText("0 pictures").waitFor();
  await checkView(visited, "Gallery");
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
