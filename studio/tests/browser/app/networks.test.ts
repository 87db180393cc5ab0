/** What sees a picture, in Create, against the real server: ControlNet, T2I-Adapter and IP-Adapter of random
 * weights with the sizes of the bundled model; and models of the folder.
 *
 * SCREENSHOTS=folder also writes the states as pictures, to be looked at. */

import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makePng } from "./real.ts";
import { Studio, writeModels } from "./studio.ts";

const FILES = `
import json, sys
from pathlib import Path
from types import SimpleNamespace
import adapters, control_nets as nets
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import save_file
from fromnoise.checkpoints.hub import BUNDLED
from fromnoise.checkpoints.formats.diffusers_configs import read_unet
from fromnoise.checkpoints.configs import read_json
from fromnoise.models.t2i_adapter import T2IAdapter, T2IAdapterConfig
place = Path(sys.argv[1])
for name in ("controlnet", "t2i_adapter/sketch", "ipadapter", "clip_vision", "diffusers"):
    (place / name).mkdir(parents=True)
(place / "diffusers" / "second").symlink_to(BUNDLED)
own = read_unet(read_json(BUNDLED / "unet" / "config.json"))
for name, config in (("lines", own), ("foreign", nets.UNETS["sd1"])):
    control = ControlNetModel(**nets.describe(config), conditioning_embedding_out_channels=(4, 8, 8, 16))
    nets.randomize(control, 3, 1.0)
    control.save_pretrained(place / "controlnet" / name)
known = {"channels": [64, 160], "num_res_blocks": 1, "downscale_factor": 8}
sketch = T2IAdapter(T2IAdapterConfig("full_adapter", 3, (64, 160), 1, 8))
nets.randomize(sketch, 4, 1.0)
save_file(sketch.state_dict(), place / "t2i_adapter" / "sketch" / "diffusion_pytorch_model.safetensors")
told = {"_class_name": "T2IAdapter", "adapter_type": "full_adapter", "in_channels": 3, **known}
(place / "t2i_adapter" / "sketch" / "config.json").write_text(json.dumps(told))
pipeline = SimpleNamespace(unet=UNet2DConditionModel.from_pretrained(BUNDLED / "unet"))
adapters.make_tower(place / "clip_vision")
adapters.make_adapter(place / "ipadapter" / "look.safetensors", pipeline, "plain")
adapters.EMBED = 20  # which no tower gives
adapters.make_adapter(place / "ipadapter" / "towerless.safetensors", pipeline, "plain")
`;
interface Job {
  id: string;
  model: string;
  state: string;
  settings: Record<string, any>; // eslint-disable-line
  pictures: { id: string; file: string; model: string }[];
}
const PROMPT = { prompt: "a red cat", steps: 2, seed: 3, count: 1 };
const ADDRESS = `#/create?${new URLSearchParams(Object.entries(PROMPT).map(([name, value]) => [name, String(value)]))}`;
const SEEN = { name: "seen.png", mimeType: "image/png", buffer: makePng("Title", "seen") }; // grey
let studio: Studio;
let models: string;
let plain: Buffer; // the picture without anything put on the model

beforeAll(async () => {
  models = writeModels(FILES).folder;
  studio = await Studio.start({ FROMNOISE_MODELS: models, HOME: models });
  const [picture] = await studio.draw(PROMPT);
  plain = await read(picture.file);
}, 300_000);
afterAll(async () => {
  await studio?.stop();
  rmSync(models, { recursive: true, force: true });
  expect(studio?.faults).toEqual([]);
});

const read = async (file: string): Promise<Buffer> => Buffer.from(await (await fetch(studio.address + file)).arrayBuffer());
const addon = (page: Page, name: string) => page.getByRole("region", { name, exact: true });

async function pick(page: Page, kind: string, name: string): Promise<void> {
  const summary = page.locator("summary", { hasText: "LoRA and other add-ons" });
  await summary.waitFor();
  if (!(await summary.evaluate((element) => (element.parentElement as HTMLDetailsElement).open))) await summary.press("Enter"); // it moves while the page is filled
  await page.getByRole("button", { name: /^(Choose an add-on|Add another)$/ }).click();
  const picker = page.getByRole("dialog", { name: "Put on the model" });
  await picker.getByRole("button", { name: new RegExp(`^${kind} \\d+$`) }).click();
  await picker.getByRole("option", { name: new RegExp(name) }).click();
  await picker.waitFor({ state: "hidden" });
}

/** Presses Draw; the job once it has ended. */
async function draw(page: Page): Promise<Job> {
  const asked = page.waitForResponse((answer) => answer.url().endsWith("/api/generate"));
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  const { id } = (await (await asked).json()) as Job;
  const job = () => studio.api<Job>(`jobs/${id}`);
  await expect.poll(async () => (await job()).state, { timeout: 90_000 }).not.toMatch(/queued|running/);
  return job();
}

/** Draws, and waits for the picture on the stage. */
async function drawPicture(page: Page): Promise<Job> {
  const job = await draw(page);
  expect(job.state).toBe("done");
  await page.locator(`.tile .open img[src*="${job.pictures[0].id}"]`).waitFor();
  return job;
}

test.each([
  ["lines", "ControlNet", "It fits: it is a ControlNet for such a model.", "controls", (item: Job["settings"]) => item.image],
  ["sketch", "T2I-Adapter", "It fits: it is a T2I-Adapter for such a model.", "controls", (item: Job["settings"]) => item.image],
  ["look", "IP-Adapter", "It fits: it was made for such a model.", "ip_adapters", (item: Job["settings"]) => item.pictures[0]],
])("%s (%s) is chosen, told that it fits, shown a picture, weighed, drawn with, taken off", async (name, kind, match, field, hashOf) => {
  const page = await studio.visit(ADDRESS);
  await pick(page, kind, name);
  const row = addon(page, name);
  await row.getByText(match).waitFor();
  await row.locator("span").getByText(kind, { exact: true }).waitFor(); // and no other one
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await page.getByText(`${name} looks at a picture, and has none.`).waitFor();
  await row.getByLabel("It needs a picture").setInputFiles(SEEN);
  await row.getByLabel("Another picture").waitFor();
  if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, `networks-${name}.png`) });
  const whole = await drawPicture(page);
  await row.getByRole("spinbutton", { name: "Weight" }).fill("0.4");
  await row.getByRole("spinbutton", { name: "Weight" }).blur();
  const light = await drawPicture(page);
  for (const [job, weight] of [[whole, 1], [light, 0.4]] as const) {
    const { [field]: [item], ...others } = job.settings.addons;
    expect(item).toMatchObject({ name, weight });
    expect(Object.values(others).flat().filter((one) => typeof one === "object")).toEqual([]);
    const { width, height, pixels } = studio.readUpload(hashOf(item));
    expect([width, height, ...new Set(pixels)]).toEqual([128, 128, 128]); // the grey picture
  }
  const drawn = [plain, await read(whole.pictures[0].file), await read(light.pictures[0].file)];
  expect(new Set(drawn.map((file) => file.toString("base64"))).size).toBe(3);
  await row.getByRole("button", { name: "Remove" }).click();
  await row.waitFor({ state: "detached" });
  const without = await drawPicture(page);
  expect(without.settings.addons ?? null).toBe(null);
  expect((await read(without.pictures[0].file)).equals(plain)).toBe(true);
  await page.context().close();
}, 120_000);

test("one that does not fit and one that lacks its image tower say so before they draw", async () => {
  const page = await studio.visit(ADDRESS);
  await pick(page, "ControlNet", "foreign");
  await addon(page, "foreign").getByText(/It does not fit: foreign was made for a model that differs in widths of blocks/).waitFor();
  await addon(page, "foreign").getByLabel("It needs a picture").setInputFiles(SEEN);
  await addon(page, "foreign").getByLabel("Another picture").waitFor();
  expect((await draw(page)).state).toBe("failed"); // and it says why
  await page.getByRole("alert").filter({ hasText: "foreign was made for a model that differs in widths of blocks" }).waitFor();
  await addon(page, "foreign").getByRole("button", { name: "Remove" }).click();
  await pick(page, "IP-Adapter", "towerless");
  await addon(page, "towerless").getByText(/It fits the model, but the IP-Adapter .* reads CLIP's image tower/).waitFor();
  await page.context().close();
}, 120_000);

test("a model of the folder is drawn with, and the first one again", async () => {
  const page = await studio.visit(ADDRESS);
  await page.getByText("diffusers/second").waitFor({ state: "attached" }); // in the list
  await page.locator("summary", { hasText: "Model and sampler" }).press("Enter");
  const picker = page.getByRole("combobox", { name: "Model" });
  await picker.waitFor();
  const offered = (await picker.locator("option").allTextContents()).map((text) => text.split(" ")[0]);
  expect(offered).toEqual(["fromnoise", "diffusers/second"]);
  await picker.selectOption("diffusers/second");
  const other = await drawPicture(page);
  expect([other.model, other.pictures[0].model]).toEqual(["diffusers/second", "diffusers/second"]);
  await page.reload();
  await expect.poll(() => picker.inputValue()).toBe("diffusers/second"); // it is in the address
  await picker.selectOption("");
  const first = await drawPicture(page);
  expect([first.model, first.pictures[0].model]).toEqual(["fromnoise", "fromnoise"]);
  expect((await read(first.pictures[0].file)).equals(plain)).toBe(true);
  await page.context().close();
}, 120_000);
