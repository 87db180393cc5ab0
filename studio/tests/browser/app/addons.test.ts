/** Add-ons in Create against the real server: files that fit the bundled model, in part or not at all.
 *
 * SCREENSHOTS=folder also writes the states as pictures, to be looked at. */

import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findViolations, Studio, writeModels } from "./studio.ts";

const FILES = `
import sys
from pathlib import Path
import loras, torch
from PIL import Image
from safetensors.torch import save_file
from fromnoise.api import load
from fromnoise.checkpoints.hub import BUNDLED
place, model = Path(sys.argv[1]), load().model
for name in ("lora", "embeddings"):
    (place / name).mkdir(parents=True)
starts = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
pairs = loras.make_pairs(model, loras.list_modules(model)[::4])
fitting = loras.write_kohya(pairs, lambda part, name: starts[part] + name.replace(".", "_"))
training = {"modelspec.trigger_phrase": "papercut", "ss_tag_frequency": '{"a": {"thin (paper)": 9, "cat": 3}}'}
loras.save(place / "lora" / "paper_cut.safetensors", fitting, training)
picture = Image.linear_gradient("L").resize((640, 480))
Image.merge("RGB", (picture, picture.rotate(180), Image.new("L", (640, 480), 90))).save(place / "lora" / "paper_cut.preview.png")
alien = {f"lora_unet_alien_{i}.lora_{end}.weight": torch.zeros(2, 2) for i in range(60) for end in ("up", "down")}
loras.save(place / "lora" / "half.safetensors", fitting | alien)
key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
foreign = {f"{key}.lora_down.weight": torch.zeros(4, 2048), f"{key}.lora_up.weight": torch.zeros(640, 4)}
for i in range(9):
    loras.save(place / "lora" / f"large style {i}.safetensors", foreign)
(place / "lora" / "large style 0.png").write_text("no picture")
width = model.text_encoder.config.dim
save_file({"emb_params": torch.zeros(3, width)}, place / "embeddings" / "glow.safetensors")
(place / "diffusers").mkdir()
(place / "diffusers" / "second").symlink_to(BUNDLED)
print(len(pairs))
`;
let studio: Studio;
let models: string;
let parts = 0; // of the LoRA that fits

beforeAll(async () => {
  const written = writeModels(FILES);
  [models, parts] = [written.folder, Number(written.printed)];
  studio = await Studio.start({ FROMNOISE_MODELS: models, HOME: models });
}, 300_000);
afterAll(async () => {
  await studio?.stop();
  rmSync(models, { recursive: true, force: true });
  expect(studio?.faults).toEqual([]);
});

const picker = (page: Page) => page.getByRole("dialog", { name: "Put on the model" });
const addon = (page: Page, name: string) => page.getByRole("region", { name, exact: true });

async function openPicker(page: Page): Promise<void> {
  const summary = page.locator("summary", { hasText: "LoRA and other add-ons" });
  await summary.waitFor();
  if (!(await summary.evaluate((element) => (element.parentElement as HTMLDetailsElement).open))) await summary.press("Enter"); // it moves while the page is filled
  await page.getByRole("button", { name: /^(Choose an add-on|Add another)$/ }).click();
  await picker(page).waitFor();
}

async function photograph(page: Page, name: string): Promise<void> {
  const folder = process.env.SCREENSHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `addons-${name}.png`) });
}

test("by mouse: a LoRA is found by its picture, says that it fits, brings its words, and is drawn with", async () => {
  const page = await studio.visit("#/create?prompt=a+cat&steps=2&count=1&seed=3");
  await openPicker(page);
  const cards = picker(page).getByRole("option");
  await expect.poll(() => cards.count()).toBe(12);
  const picture = picker(page).getByRole("option", { name: /paper_cut/ }).locator("img");
  await expect.poll(() => picture.evaluate((image: HTMLImageElement) => image.naturalWidth)).toBe(256);
  // one that is no picture gives way to letters
  await expect.poll(() => picker(page).getByRole("option", { name: "large style 0" }).innerText()).toContain("LS");
  await picker(page).getByRole("searchbox").fill("cut paper");
  await picker(page).getByText("1 of 12").waitFor();
  await picker(page).getByRole("searchbox").fill("zzz");
  await picker(page).getByText("No name is like that").waitFor();
  await picker(page).getByRole("searchbox").fill("");
  await picker(page).getByRole("button", { name: "Embedding 1" }).click();
  await expect.poll(() => cards.count()).toBe(1);
  await picker(page).getByRole("button", { name: "LoRA 11" }).click();
  await cards.filter({ hasText: "paper_cut" }).click();
  await picker(page).waitFor({ state: "hidden" });
  const row = addon(page, "paper_cut");
  await row.getByText(`It fits: ${parts} of ${parts} parts have a place.`).waitFor();
  await row.getByRole("button", { name: "thin (paper)" }).click();
  const prompt = page.getByRole("textbox", { name: "Prompt", exact: true });
  expect(await prompt.inputValue()).toBe(String.raw`a cat, thin \(paper\)`);
  expect(await row.getByRole("button", { name: "thin (paper)" }).getAttribute("aria-pressed")).toBe("true");
  expect(await row.getByRole("button", { name: "cat", exact: true }).getAttribute("aria-pressed")).toBe("true"); // it is there
  await row.locator("summary").click();
  await row.getByText(`3 (${parts})`).waitFor(); // the rank
  await row.getByRole("spinbutton", { name: "Weight" }).fill("0.1");
  await row.getByRole("spinbutton", { name: "Weight" }).blur();
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await page.getByRole("button", { name: /^Open picture 1/ }).waitFor({ timeout: 90_000 });
  const { jobs } = await studio.api<{ jobs: { settings: Record<string, unknown>; state: string }[] }>("jobs?limit=1");
  expect(jobs[0]).toMatchObject({ state: "done", settings: { addons: { loras: [{ name: "paper_cut", weight: 0.1 }] } } });
  await openPicker(page);
  expect(await picker(page).getByRole("option", { name: /paper_cut/ }).getAttribute("aria-selected")).toBe("true");
  await picker(page).getByRole("option", { name: /paper_cut/ }).click(); // twice is once
  await picker(page).waitFor({ state: "hidden" });
  await row.getByRole("button", { name: "Remove" }).click();
  await row.waitFor({ state: "detached" });
  await page.context().close();
}, 180_000);

test("by keyboard: searched, walked through, chosen; the focus comes back", async () => {
  const page = await studio.visit("#/create?prompt=a+cat");
  await page.locator("summary", { hasText: "LoRA and other add-ons" }).press("Enter");
  await page.getByRole("button", { name: "Choose an add-on" }).press("Enter");
  await picker(page).getByRole("searchbox").waitFor();
  expect(await page.evaluate(() => document.activeElement?.getAttribute("type"))).toBe("search");
  await page.keyboard.type("style");
  await picker(page).getByText("9 of 12").waitFor();
  await page.keyboard.press("ArrowDown");
  const focused = () => page.evaluate(() => document.activeElement?.textContent ?? "");
  expect(await focused()).toContain("large style 0");
  await page.keyboard.press("ArrowRight");
  expect(await focused()).toContain("large style 1");
  await page.keyboard.press("End");
  expect(await focused()).toContain("large style 8");
  await page.keyboard.press("ArrowUp");
  const above = Number(/style (\d)/.exec(await focused())![1]);
  expect(above).toBeLessThan(8);
  await page.keyboard.press("ArrowDown");
  expect(await focused()).toContain("large style 8");
  await page.keyboard.press("Enter");
  await picker(page).waitFor({ state: "hidden" });
  // another family is told before anything is drawn
  const told = addon(page, "large style 8").getByText("It does not fit this model: 0 of 1 parts have a place. It was made for Stable Diffusion XL.");
  await told.waitFor();
  expect(await focused()).toContain("Add another");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Escape");
  await picker(page).waitFor({ state: "hidden" });
  await page.context().close();
}, 120_000);

test("what fits in part names the rest; an embedding says its word; a file that is gone is told", async () => {
  const addons = JSON.stringify({ loras: [{ name: "half", weight: 1 }, { name: "vanished", weight: 1 }], embeddings: [{ name: "glow" }] });
  const page = await studio.visit(`#/create?${new URLSearchParams({ prompt: "a cat", addons })}`);
  const half = addon(page, "half");
  await half.getByText(`It fits in part: ${parts} of ${parts + 60} parts have a place. The rest is not used.`).waitFor();
  await half.locator("summary").press("Enter");
  await half.getByText("Without a place in this model, the first 50 of 60:").waitFor();
  expect(await half.locator("li").count()).toBe(50);
  await addon(page, "glow").getByText("It fits. It takes the place of 3 tokens.").waitFor();
  await addon(page, "glow").getByRole("button", { name: "glow" }).press("Enter");
  expect(await page.getByRole("textbox", { name: "Prompt", exact: true }).inputValue()).toBe("a cat, glow");
  await addon(page, "vanished").getByText("No file of this name").waitFor();
  await page.context().close();
}, 120_000);

test("a model that is not loaded yet is loaded to count the parts", async () => {
  const addons = JSON.stringify({ loras: [{ name: "paper_cut", weight: 1 }] });
  const page = await studio.visit(`#/create?${new URLSearchParams({ prompt: "a cat", addons })}`);
  const row = addon(page, "paper_cut");
  await row.getByText("It fits").waitFor();
  await page.locator("summary", { hasText: "Model and sampler" }).press("Enter");
  await page.getByRole("combobox", { name: "Model" }).selectOption("diffusers/second");
  await row.getByText("Whether it fits is known once the model is loaded.").waitFor();
  await row.getByRole("button", { name: "Load the model and count" }).press("Enter");
  await row.getByText(`It fits: ${parts} of ${parts} parts have a place.`).waitFor();
  await page.context().close();
}, 120_000);

test.each([[375, 800], [768, 1024], [1440, 900]])("no violation of accessibility at %i × %i, light and dark", async (width, height) => {
  const addons = JSON.stringify({ loras: [{ name: "half", weight: 1 }, { name: "paper_cut", weight: 1 }, { name: "large style 3", weight: 1 }] });
  for (const colorScheme of ["light", "dark"] as const) {
    const page = await studio.visit(`#/create?${new URLSearchParams({ prompt: "a cat", addons })}`, { colorScheme, viewport: { width, height } });
    await addon(page, "paper_cut").getByText("It fits").waitFor();
    await addon(page, "large style 3").getByText("It does not fit").waitFor();
    await addon(page, "half").locator("summary").click();
    await page.evaluate(() => scrollTo(0, 0)); // the head of the page covers what is under it
    expect(await findViolations(page)).toEqual([]);
    await addon(page, "paper_cut").evaluate((element) => element.scrollIntoView({ block: "center" }));
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
    await photograph(page, `rows-${width}-${colorScheme}`);
    await openPicker(page);
    await expect.poll(() => picker(page).locator("img").count()).toBe(1); // the other one is no picture
    expect(await findViolations(page)).toEqual([]);
    await photograph(page, `picker-${width}-${colorScheme}`);
    await page.context().close();
  }
}, 180_000);
