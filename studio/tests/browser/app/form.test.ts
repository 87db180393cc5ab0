/** The form of Create, field by field: what the page shows, and what the server gets. */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Locator, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { draw, launch, runPython, sharedStudio, visit, type Studio } from "./real.ts";

const LONG = 180_000;
const HERE = new URL(".", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "fromnoise-form-"));
type Json = Record<string, any>; // eslint-disable-line

let studio: Studio;
let browser: Browser;

beforeAll(async () => {
  runPython("import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')", join(HERE, "foreign_pictures.py"), folder);
  [studio, browser] = [await sharedStudio(), await launch()];
}, LONG);
afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

const api = async (path: string): Promise<Json> => (await fetch(`${studio.address}/api/${path}`)).json();
const field = (page: Page, name: string): Locator => page.getByLabel(name, { exact: true });
const list = (page: Page, name: string): Locator => page.locator("label", { has: page.getByText(name, { exact: true }) }).locator("select");
/** Opens a section of the form, by keyboard: notes on the prompt may move it at any time. */
async function open(page: Page, title: string): Promise<void> {
  const summary = page.locator("summary", { hasText: title });
  if (!(await summary.evaluate((one) => (one.parentElement as HTMLDetailsElement).open))) await summary.press("Enter");
}

/** Presses Draw; the job as the server took it. */
async function ask(page: Page): Promise<Json> {
  const isAsked = (url: string) => /\/api\/(generate|hires|edit)$/.test(url);
  const [answer] = await Promise.all([
    page.waitForResponse((one) => isAsked(one.url())), page.getByRole("button", { name: "Draw", exact: true }).click(),
  ]);
  expect(answer.status(), await answer.text()).toBe(202);
  return api(`jobs/${(await answer.json()).id}`);
}
/** As `ask`, once it is drawn and shown. */
async function askAndSee(page: Page): Promise<Json> {
  const { id } = await ask(page);
  await expect.poll(async () => (await api(`jobs/${id}`)).state, { timeout: LONG }).toBe("done");
  const job = await api(`jobs/${id}`);
  const files = job.pictures.map(({ file }: Json) => file);
  await expect.poll(() => page.locator(".tile .open img").evaluateAll((all) => all.map((one) => one.getAttribute("src"))), { timeout: LONG }).toEqual(files);
  return job;
}
const without = (settings: Json, ...names: string[]): Json => Object.fromEntries(Object.entries(settings).filter(([name]) => !names.includes(name)));

test("presets: each changes what the form shows, is sent and drawn with; and back", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+cat&count=1");
  const { presets, ...usual } = await api("defaults");
  const choices = await api("samplers");
  const labelOf = (kind: string, wanted: string) => choices[kind].find(({ name }: Json) => name === wanted).label;
  await open(page, "Model and sampler");
  const choice = list(page, "Preset");
  const read = async () => ({
    steps: Number(await field(page, "Steps").getAttribute("placeholder")), stepsSlider: Number(await field(page, "Steps, slider").inputValue()),
    cfg: Number(await field(page, "Guidance").getAttribute("placeholder")), cfgSlider: Number(await field(page, "Guidance, slider").inputValue()),
    sampler: await list(page, "Sampler").locator("option").first().innerText(), spacing: await list(page, "Spacing").locator("option").first().innerText(),
  });
  const show = ({ steps, cfg, sampler, spacing }: Json) => ({
    steps, stepsSlider: steps, cfg, cfgSlider: cfg, sampler: labelOf("samplers", sampler), spacing: labelOf("spacings", spacing),
  });
  await expect.poll(read).toEqual(show(usual));
  await expect.poll(() => choice.locator("option").allInnerTexts()).toEqual(["None", ...Object.keys(presets)]);
  for (const [name, values] of Object.entries<Json>(presets)) {
    await choice.selectOption({ value: name });
    await expect.poll(read, { message: name }).toEqual(show({ ...usual, ...values }));
    const job = await askAndSee(page);
    expect(without(job.settings, "seed")).toEqual({ prompt: "a cat", count: 1, preset: name });
    const { steps, cfg } = { ...usual, ...values };
    expect(job.pictures[0].infotext).toMatch(new RegExp(`Steps: ${steps}, .*CFG scale: ${cfg},`));
  }
  await field(page, "Steps").fill("1"); // what is set goes before the preset
  const mine = await askAndSee(page);
  expect(mine.settings).toMatchObject({ preset: Object.keys(presets).at(-1), steps: 1 });
  expect(mine.pictures[0].infotext).toContain("Steps: 1, Sampler: Euler, Schedule type: Trailing");
  await field(page, "Steps").fill("");
  await choice.selectOption({ value: "" });
  await expect.poll(read).toEqual(show(usual));
  expect(await choice.isVisible()).toBe(true); // the section stays open
  expect(without((await ask(page)).settings, "seed")).toEqual({ prompt: "a cat", count: 1 });
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("each field, by mouse and by keyboard, is sent as it is shown", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create");
  await page.getByRole("textbox", { name: "Prompt" }).fill("a cat");
  await page.getByRole("textbox", { name: "Stay away from" }).fill("a dog, snow");
  const steps = { number: field(page, "Steps"), slider: field(page, "Steps, slider") };
  const cfg = { number: field(page, "Guidance"), slider: field(page, "Guidance, slider") };
  await expect.poll(() => steps.slider.inputValue()).toBe("20");

  await steps.slider.press("Home"); // the slider by keyboard: its number follows
  expect(await steps.number.inputValue()).toBe("1");
  await steps.slider.press("ArrowRight");
  expect(await steps.number.inputValue()).toBe("2");
  await cfg.number.fill("7.5"); // the number by keyboard: its slider follows
  expect(await cfg.slider.inputValue()).toBe("7.5");
  await cfg.number.press("ArrowUp");
  await page.getByRole("radio", { name: "2", exact: true }).click(); // by mouse, as all that follows
  const box = (await cfg.slider.boundingBox())!;
  await cfg.slider.click({ position: { x: box.width / 2, y: box.height / 2 } });
  const middle = Number(await cfg.number.inputValue());
  expect(middle).toBeGreaterThan(7);
  expect(middle).toBeLessThan(9);
  await page.getByRole("button", { name: "Wide", exact: true }).click();
  const [width, height] = [await field(page, "Width").inputValue(), await field(page, "Height").inputValue()].map(Number);
  expect(width / height).toBeCloseTo(3 / 2, 0);
  await open(page, "Model and sampler");
  await list(page, "Sampler").selectOption({ label: "Heun" });
  await list(page, "Spacing").selectOption({ value: "leading" });
  const job = await askAndSee(page);
  expect(without(job.settings, "seed")).toEqual({
    prompt: "a cat", negative_prompt: "a dog, snow", steps: 2, cfg: middle, width, height, count: 2, sampler: "heun", spacing: "leading",
  });
  expect(job.pictures.map(({ width: w, height: h }: Json) => [w, h])).toEqual([[width, height], [width, height]]);
  expect(job.pictures[0].infotext).toMatch(/Negative prompt: a dog, snow\nSteps: 2, Sampler: Heun, Schedule type: Leading/);

  await page.getByRole("button", { name: "Square", exact: true }).click(); // back to what the model prefers
  await field(page, "Width").fill("144");
  for (const { number } of [steps, cfg]) await number.fill("");
  await expect.poll(() => steps.slider.inputValue()).toBe("20");
  await list(page, "Sampler").selectOption({ value: "" });
  await list(page, "Spacing").selectOption({ value: "automatic" });
  await page.getByRole("radio", { name: "1", exact: true }).press("Space");
  await page.getByRole("textbox", { name: "Stay away from" }).fill("");
  await list(page, "Preset").selectOption({ value: "fast" });
  await field(page, "Steps").fill("1");
  expect(without((await ask(page)).settings, "seed")).toEqual({ prompt: "a cat", steps: 1, width: 144, count: 1, spacing: "automatic", preset: "fast" });
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("a section of the form stays open while its field is emptied", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+cat&steps=1&count=1");
  await open(page, "Variation of a seed");
  const strength = field(page, "Strength");
  await strength.fill("0.5");
  await strength.press("Control+a");
  await strength.press("Delete");
  await page.keyboard.type("0.25");
  expect(await strength.inputValue()).toBe("0.25");
  await expect.poll(() => page.url()).toContain("variation_strength=0.25");
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("what cannot be drawn is told with its remedy, and the form stays", async () => {
  const { page } = await visit(browser, studio.address, "#/create?prompt=a+cat&steps=1&count=1");
  const messages = page.getByRole("alert");
  const refuse = async (value: string, remedy: RegExp) => {
    await page.getByRole("button", { name: "Draw", exact: true }).click();
    await messages.filter({ hasText: value }).waitFor();
    await expect.poll(() => messages.filter({ hasText: value }).innerText()).toMatch(remedy);
    await messages.filter({ hasText: value }).getByRole("button", { name: "Close the message" }).click();
  };
  for (const [name, value, remedy] of [
    ["Steps", "900", /150 at most/], ["Steps", "0", /greater than or equal to 1/], ["Steps", "2.5", /valid integer/],
    ["Guidance", "-1", /greater than or equal to 0/], ["Guidance", "101", /less than or equal to 100/],
    ["Width", "100", /multiple of 16, such as 96/], ["Height", "4", /greater than or equal to 8/],
    ["Seed", "seven", /valid integer/], ["Seed", "-1", /greater than or equal to 0/], ["Seed", "18446744073709551616", /less than/],
  ] as const) {
    await field(page, name).fill(value);
    await refuse(value, remedy);
    expect(await field(page, name).inputValue()).toBe(value);
    await field(page, name).fill(name === "Steps" ? "1" : "");
  }
  await open(page, "Variation of a seed");
  await field(page, "Strength").fill("2");
  await refuse("variation_strength = 2", /less than or equal to 1/);
  for (const [query, value, remedy] of [
    ["count=17", "17 pictures", /16 at most/], ["steps=many", "'many'", /valid integer/], ["steps=Infinity", "'Infinity'", /valid integer/],
    ["sampler=theirs", "theirs", /choose one of: euler/i], ["preset=theirs", "theirs", /choose one of: fast/i],
    ["more=5", '"more"', /press Clear/], ["more=null", '"more"', /press Clear/], ["addons=%7B", '"addons"', /press Clear/],
    ["addons=%7B%22loras%22%3A5%7D", "loras", /valid tuple/],
    ["addons=%7B%22controls%22%3A%5B%7B%7D%2C3%5D%7D", "controls", /required/],
  ] as const) {
    await page.goto(`${studio.address}/studio.html#/create?prompt=a+cat&${query}`);
    await expect.poll(() => page.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe("a cat");
    await expect.poll(() => page.url()).toContain(query.split("=")[0]);
    await refuse(value, remedy);
  }
  await page.getByRole("button", { name: "Clear" }).click();
  await page.getByRole("textbox", { name: "Prompt" }).fill("a cat");
  await field(page, "Steps").fill("1");
  expect(without((await ask(page)).settings, "seed")).toEqual({ prompt: "a cat", steps: 1, count: 4 });
  await page.context().close();
}, LONG);

test("seed: another each time, a die, a lock; and the picture's seed is the one that is shown", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+cat&steps=1&count=1");
  const seed = field(page, "Seed");
  const press = (name: string | RegExp) => page.getByRole("button", { name, exact: true }).click();
  const seeds = [await askAndSee(page), await askAndSee(page)].map((job) => job.pictures[0].seed);
  expect(new Set(seeds).size).toBe(2);
  expect(await seed.inputValue()).toBe("");
  await press("Lock"); // the newest picture's
  expect(await seed.inputValue()).toBe(seeds[1]);
  const [first, second] = [await askAndSee(page), await askAndSee(page)];
  expect([first, second].map((job) => [job.settings.seed, job.pictures[0].seed])).toEqual(Array(2).fill([Number(seeds[1]), seeds[1]]));
  expect(second.pictures[0].hash).toBe(first.pictures[0].hash);

  await press(/^Dice/);
  const thrown = await seed.inputValue();
  await press(/^Dice/);
  expect(await seed.inputValue()).toMatch(/^\d+$/);
  expect(new Set([thrown, await seed.inputValue(), seeds[1]]).size).toBe(3);
  await page.getByRole("radio", { name: "2", exact: true }).press("Space");
  const two = await askAndSee(page);
  const shown = BigInt(await seed.inputValue());
  expect(two.pictures.map((picture: Json) => BigInt(picture.seed))).toEqual([shown, shown + 1n]);
  await page.locator(".tile .open").nth(1).click();
  const dialog = page.getByRole("dialog", { name: "Picture" });
  expect(await dialog.getByRole("row", { name: /^seed/ }).getByRole("cell").innerText()).toBe(String(shown + 1n));
  await page.keyboard.press("Escape");

  await seed.fill("18446744073709551615"); // more than JavaScript can count
  await page.getByRole("radio", { name: "1", exact: true }).press("Space");
  const large = await askAndSee(page);
  expect(large.pictures[0].seed).toBe("18446744073709551615");
  expect(large.pictures[0].infotext).toContain("Seed: 18446744073709551615,");
  await press("Unlock");
  expect(await seed.inputValue()).toBe("");
  expect((await askAndSee(page)).pictures[0].seed).not.toBe("18446744073709551615");
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("variation: its seed and its strength are sent, and its picture's settings come back", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+cat&steps=1&count=2&seed=5");
  const plain = await askAndSee(page);
  await open(page, "Variation of a seed");
  await field(page, "Strength").fill("0.3");
  await field(page, "Variation seed").fill("70");
  const varied = await askAndSee(page);
  expect(varied.settings).toEqual({ prompt: "a cat", steps: 1, count: 2, seed: 5, variation_seed: 70, variation_strength: 0.3 });
  expect(varied.pictures[0].hash).not.toBe(plain.pictures[0].hash);
  expect(varied.pictures[1].infotext).toMatch(/Seed: 5,.*Variation seed: 71,.*Variation seed strength: 0.3/);
  await page.locator(".tile .open").nth(1).click();
  await page.getByRole("dialog", { name: "Picture" }).getByRole("button", { name: "Use its settings" }).click();
  await expect.poll(() => field(page, "Variation seed").inputValue()).toBe("71");
  expect(await field(page, "Seed").inputValue()).toBe("5");
  expect((await askAndSee(page)).pictures[0].hash).toBe(varied.pictures[1].hash);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

const ODD = 'a "cat" & <b>dog</b> 100% #1 +=?/\\ süß 🦊 テスト (neon:1.2) [x]\nsecond line';
/** What the whole form shows, control by control. */
const readForm = (page: Page): Promise<Json> => page.locator(".create").evaluate((view) => {
  const label = (one: Element) => (one as HTMLInputElement).labels?.[0]?.innerText || one.getAttribute("aria-label") || "";
  const fields = [...view.querySelectorAll<HTMLInputElement>("textarea, select, input:not([type=file])")];
  const rows = [...view.querySelectorAll("li span")].map((one, i) => [`row ${i}`, one.textContent]);
  return Object.fromEntries([...fields.map((one, i) => [`${i} ${label(one)}`, one.type === "radio" ? one.checked : one.value]), ...rows]);
});

test("the whole form is in the address: in another browser it is the same, and draws the same", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?more=%7B%22cfg_rescale%22%3A0.3%7D");
  await page.getByRole("textbox", { name: "Prompt" }).fill(ODD);
  await page.getByRole("textbox", { name: "Stay away from" }).fill("snow & 50% #rain");
  for (const title of ["Model and sampler", "Variation of a seed", "Two passes", "Seamless tiles"]) await open(page, title);
  await list(page, "Preset").selectOption({ value: "turbo" });
  await list(page, "Sampler").selectOption({ value: "euler" });
  await list(page, "Spacing").selectOption({ value: "karras" });
  for (const [name, value] of [
    ["Steps", "2"], ["Guidance", "3.25"], ["Width", "144"], ["Height", "128"], ["Seed", "12345678901234567890"], ["Strength", "0.25"],
    ["Variation seed", "8"], ["Scale", "1.25"], ["Change", "0.5"],
  ]) await field(page, name).fill(value);
  await list(page, "Along").selectOption({ value: "x" });
  await page.getByRole("radio", { name: "2", exact: true }).press("Space");
  await expect.poll(() => page.url()).toContain("tiling=x");
  await expect.poll(() => page.url()).toContain("count=2");
  const shown = await readForm(page);
  const job = await ask(page);
  expect(job.kind).toBe("hires");
  expect(job.settings).toMatchObject({ prompt: ODD, negative_prompt: "snow & 50% #rain", cfg_rescale: 0.3, tiling: "x", hires_scale: 1.25, hires_strength: 0.5 });

  const other = await visit(browser, studio.address, new URL(page.url()).hash);
  await other.page.getByRole("option", { name: "Heun", exact: true }).waitFor({ state: "attached" });
  await expect.poll(() => readForm(other.page)).toEqual(shown);
  const again = await ask(other.page);
  expect([again.kind, again.settings]).toEqual([job.kind, job.settings]);
  expect(Object.keys(job.settings).sort()).toEqual([
    "cfg", "cfg_rescale", "count", "height", "hires_scale", "hires_strength", "negative_prompt", "preset", "prompt", "sampler", "seed", "spacing",
    "steps", "tiling", "variation_seed", "variation_strength", "width",
  ]);
  await other.page.reload();
  await expect.poll(() => readForm(other.page)).toEqual(shown);
  expect([...faults, ...other.faults]).toEqual([]);
  await page.context().close();
  await other.page.context().close();
}, LONG);

test("a link that is opened while somebody types goes before what was typed", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+cat");
  await page.addInitScript(() => { // what waits a quarter of a second waits until it is called
    const [late, wait] = [[] as (() => void)[], window.setTimeout];
    window.setTimeout = ((act: () => void, time = 0) => (time === 250 ? late.push(act) : wait(act, time))) as typeof setTimeout;
    Object.assign(window, { late });
  });
  await page.reload();
  await page.getByRole("textbox", { name: "Prompt" }).fill("a dog");
  await page.evaluate(() => {
    location.hash = "#/create?prompt=a+fox";
    for (const act of (window as any).late) act(); // eslint-disable-line
  });
  await expect.poll(() => page.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe("a fox");
  expect(page.url()).toContain("prompt=a+fox");
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("a start from a picture and add-ons are in the address too", async () => {
  const { page } = await visit(browser, studio.address, "#/create?prompt=a+fox&steps=2&count=3&seed=4");
  await open(page, "Start from a picture");
  await page.getByLabel("PNG, JPEG or WebP; or drop it on the page").setInputFiles(join(folder, "a1111.png"));
  await page.getByText("The picture is uploaded.").waitFor();
  await field(page, "Change").fill("0.6");
  expect(await page.getByRole("radio", { checked: true }).getAttribute("value")).toBe("3"); // of no usual number
  const job = await ask(page);
  expect(job.kind).toBe("edit");
  expect(job.settings).toMatchObject({ prompt: "a fox", strength: 0.6, count: 3, seed: 4, steps: 2 });
  await expect.poll(() => page.url()).toContain("strength=0.6");
  const other = await visit(browser, studio.address, new URL(page.url()).hash);
  await other.page.getByText("The picture is uploaded.").waitFor();
  expect(await field(other.page, "Change").inputValue()).toBe("0.6");
  expect((await ask(other.page)).settings).toEqual(job.settings);
  await other.page.getByRole("button", { name: "Leave it out" }).click();
  expect((await ask(other.page)).kind).toBe("generate");

  const addons = { loras: [{ name: "glow", weight: 0.5 }] };
  await other.page.goto(`${studio.address}/studio.html#/create?${new URLSearchParams({ prompt: "a cat", addons: JSON.stringify(addons) })}`);
  await other.page.getByRole("region", { name: "glow" }).waitFor();
  await other.page.getByRole("button", { name: "Draw", exact: true }).click();
  await other.page.getByRole("alert").filter({ hasText: "glow" }).waitFor(); // the server looks for it: there is no such file
  await page.context().close();
  await other.page.context().close();
}, LONG);

/** Drags a file over the page and lets it fall, as the system does. */
async function dropFile(page: Page, file: string, at: Locator): Promise<void> {
  const session = await page.context().newCDPSession(page);
  const box = (await at.boundingBox())!;
  const place = { x: box.x + box.width / 2, y: box.y + box.height / 2, data: { items: [], files: [file], dragOperationsMask: 1 } };
  for (const type of ["dragEnter", "dragOver", "drop"] as const) await session.send("Input.dispatchDragEvent", { type, ...place });
  await session.detach();
}

const MAKERS: Record<string, { seed: string; used: Json; unused: RegExp[] }> = {
  a1111: {
    seed: "4294967295", used: { rng: "nv", noise_scaling: "sigma_max", hires_scale: 1.25, hires_strength: 0.4 },
    unused: [/Model: someone-elses-model/, /Hires upscaler: Their ESRGAN \(choose one of: nearest/, /Wonder: 5/],
  },
  comfyui: {
    seed: "12345678901234567890", used: { rng: "cpu", dialect: "comfy" }, unused: [/Model: someone-elses-model.safetensors/, /Loras: their-style.safetensors: 0.8/],
  },
  invokeai: { seed: "4294967295", used: { rng: "cpu", dialect: "compel" }, unused: [/Model: someone-elses-model/, /hrf_enabled: true/] },
};
const FILES = Object.keys(MAKERS).flatMap((maker) => ["png", "jpg", "webp"].map((kind) => [maker, kind] as const));

test.each(FILES)("settings of a picture of %s in %s: dropped, and by the button", async (maker, kind) => {
  const { page, faults } = await visit(browser, studio.address, "#/create?model=&prompt=before&tiling=both");
  const { seed, used, unused } = MAKERS[maker];
  const file = join(folder, `${maker}.${kind}`);
  await page.getByRole("button", { name: "Settings from a picture" }).waitFor();
  const isTaken = async () => {
    const message = page.getByRole("status").filter({ hasText: `The form has the settings of ${maker}.${kind} (${maker}).` });
    await message.waitFor({ timeout: LONG });
    const values = { Prompt: "a red fox, süß 🦊", "Stay away from": "snow", Steps: "3", Guidance: "3.5", Seed: seed, Width: "128", Height: "144" };
    expect([await list(page, "Sampler").inputValue(), await list(page, "Spacing").inputValue()]).toEqual(["dpmpp_2m", "karras"]);
    for (const [name, value] of Object.entries(values)) expect(await field(page, name).inputValue(), name).toBe(value);
    const told = await page.getByRole("region", { name: "What could not be used" }).getByRole("listitem").allInnerTexts();
    for (const pattern of unused) expect(told).toContainEqual(expect.stringMatching(pattern));
    expect(told).not.toContainEqual(expect.stringMatching(/^(Steps|Sampler|Seed|Size|CFG scale|Hires upscale|Denoising strength):/));
    await message.getByRole("button", { name: "Close the message" }).click();
  };
  await dropFile(page, file, page.locator(".create > .settings")); // over the settings
  await isTaken();
  await page.getByRole("button", { name: "Clear" }).click();
  expect(await page.getByText("Not used of that picture").count()).toBe(0);
  for (let i = 0; i < 2; i++) { // the same file a second time too
    const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.getByRole("button", { name: "Settings from a picture" }).click()]);
    await chooser.setFiles(file);
    await isTaken();
  }
  await page.getByRole("radio", { name: "1", exact: true }).press("Space");
  const job = await ask(page);
  expect(job.kind).toBe("hires_scale" in used ? "hires" : "generate");
  expect(without(job.settings, "seed")).toEqual({
    prompt: "a red fox, süß 🦊", negative_prompt: "snow", steps: 3, cfg: 3.5, sampler: "dpmpp_2m", spacing: "karras", width: 128, height: 144, count: 1, ...used,
  });
  await expect.poll(async () => (await api(`jobs/${job.id}`)).pictures[0]?.seed, { timeout: LONG }).toBe(seed);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("a file that falls beside its place does not take the place of the page", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create");
  await page.getByRole("button", { name: "Settings from a picture" }).waitFor();
  await dropFile(page, join(folder, "comfyui.png"), page.locator("header"));
  await page.getByText("The form has the settings of comfyui.png").waitFor({ timeout: LONG });
  await page.keyboard.press("g");
  await page.getByRole("heading", { name: "Gallery" }).waitFor();
  await page.evaluate(() => void ((window as any).same = true)); // eslint-disable-line
  await dropFile(page, join(folder, "comfyui.png"), page.locator("main"));
  await page.keyboard.press("c");
  await page.getByRole("button", { name: "Draw", exact: true }).waitFor();
  expect(await page.evaluate(() => "same" in window)).toBe(true);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("a file that falls on its field is taken by that field", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+cat");
  await open(page, "Start from a picture");
  await dropFile(page, join(folder, "comfyui.png"), page.getByLabel("PNG, JPEG or WebP; or drop it on the page"));
  await page.getByText("The picture is uploaded.").waitFor({ timeout: LONG });
  expect(await page.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe("a cat"); // not that of the file
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("settings of a picture of any kind: what Create does not draw with is told, the rest is drawn", async () => {
  const post = async (path: string, body: unknown) => (await fetch(`${studio.address}/api/${path}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) })).json();
  const wait = async ({ id }: Json) => {
    await expect.poll(async () => (await api(`jobs/${id}`)).state, { timeout: LONG }).toBe("done");
    return api(`jobs/${id}`);
  };
  const body = new FormData();
  body.append("file", new Blob([readFileSync(join(folder, "a1111.png"))]), "a.png");
  const image = (await (await fetch(`${studio.address}/api/uploads`, { method: "POST", body })).json()).id;
  const drawn = {
    generate: await draw(studio.address, { prompt: "a cat", steps: 1, eta: 0.5, sampler: "euler_a" }),
    hires: await wait(await post("hires", { prompt: "a cat", steps: 1, hires_width: 160, hires_height: 160 })),
    edit: await wait(await post("edit", { prompt: "a cat", steps: 2, image, strength: 0.5, extend_left: 16, content: "original" })),
    blend: await wait(await post("blend", { first: image, second: image, steps: 2, weight: 0.4 })),
    film: await wait(await post("film", { prompts: ["a cat", "a dog"], frames: 2, steps: 1 })),
    upscale: await wait(await post("upscale", { image, scale: 1.25 })),
  };
  const told: Record<string, string[]> = {
    generate: [], hires: [], edit: ["content", "extend_left", "image", "strength"], blend: ["first", "second", "weight"], film: ["frames", "prompts"], upscale: ["image", "scale"],
  };
  for (const [kind, { pictures }] of Object.entries(drawn)) {
    const { page, faults } = await visit(browser, studio.address, `#/create?from=${pictures[0].id}`);
    const prompt = kind === "blend" || kind === "upscale" ? "" : "a cat";
    await expect.poll(() => page.url(), { message: kind }).not.toContain("from=");
    expect(await page.getByRole("textbox", { name: "Prompt" }).inputValue(), kind).toBe(prompt);
    const rows = page.getByRole("region", { name: "What could not be used" }).getByRole("listitem").locator("strong");
    expect((await rows.allInnerTexts()).sort(), kind).toEqual(told[kind]);
    const job = await ask(page);
    expect(job.kind, kind).toBe(kind === "hires" ? "hires" : "generate");
    if (!told[kind].length) {
      await expect.poll(async () => (await api(`jobs/${job.id}`)).pictures[0]?.hash, { timeout: LONG }).toBe(pictures[0].hash);
    }
    expect(faults).toEqual([]);
    await page.context().close();
  }
}, LONG);

test("what is left of a slow job is shown while it is drawn", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create?prompt=a+cat&steps=150&count=1");
  const { id } = await ask(page);
  await page.locator(".said", { hasText: /^Step \d+ of 150 · \d+ (s|min) left$/ }).waitFor({ timeout: LONG });
  expect(await page.getByRole("progressbar", { name: "Steps drawn" }).getAttribute("max")).toBe("150");
  await page.locator(".state").getByRole("button", { name: "Cancel" }).click();
  await expect.poll(async () => (await api(`jobs/${id}`)).state).toBe("cancelled");
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);

test("light and dark: as the system, then as chosen, also after a reload", async () => {
  const { page, faults } = await visit(browser, studio.address, "#/create", { colorScheme: "dark" });
  const brightness = () => page.evaluate(() => Number(/\d+/.exec(getComputedStyle(document.body).backgroundColor)![0]));
  await page.getByRole("button", { name: "Light colours" }).waitFor();
  expect(await brightness()).toBeLessThan(80);
  await page.getByRole("button", { name: "Light colours" }).click();
  await expect.poll(brightness).toBeGreaterThan(200);
  await page.reload();
  await page.getByRole("button", { name: "Dark colours" }).waitFor();
  expect(await brightness()).toBeGreaterThan(200);
  expect(await page.evaluate(() => document.documentElement.dataset.theme)).toBe("light");
  await page.getByRole("button", { name: "Dark colours" }).click();
  await page.reload();
  await page.getByRole("button", { name: "Light colours" }).waitFor();
  expect(await brightness()).toBeLessThan(80);
  expect(faults).toEqual([]);
  await page.context().close();
}, LONG);
