/** The explorables that draw, in the built site: their figures are the Python engine's. Python draws
 * with the tab's weights (tests/golden_pictures.py), which are packed to about 12 bits: so only
 * arithmetic may differ. */

import { readFileSync } from "node:fs";
import { chromium, type Browser, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { expectPace } from "../pace.ts";
import { Explorable } from "./explorable.ts";
import { serve, type StaticServer } from "./server.ts";

const site = process.env.SITE ?? new URL("../../../src/fromnoise/learn/site/", import.meta.url).pathname;
const golden = JSON.parse(readFileSync(new URL("../../generated/golden/drawing.json", import.meta.url), "utf8"));
const [CHAOS, LATENT, CLIP, PROMPTS] = [
  "1-order-from-chaos.html", "2-latent-diffusion.html", "3-clip-the-bridge.html", "4-prompts-and-sampling.html",
];

let server: StaticServer;
let browser: Browser;
let page: Page;
const foreign: string[] = []; // requests that left the site

beforeAll(async () => {
  server = await serve({ "": site });
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  page = await browser.newPage();
  page.on("request", (request) => {
    if (!/^(blob:|data:)/.test(request.url()) && !request.url().startsWith(server.address)) foreign.push(request.url());
  });
});

afterAll(async () => {
  await browser?.close();
  await server?.close();
});

/** Asserts values equal to `wanted`, each to a share of their size or of 1. 1e-4 is the course's
 * promise: both sides compute in float32, and a run of steps carries differences of 1e-6 on. */
function expectNear(values: ArrayLike<number>, wanted: ArrayLike<number>, tolerance = 1e-4): void {
  expect(values.length).toBe(wanted.length);
  const errors = Array.from(wanted, (w, i) => Math.abs(values[i] - w) / Math.max(1, Math.abs(w)));
  expect(Math.max(...errors)).toBeLessThan(tolerance);
}

// A colour value that lies at the middle between two levels may be rounded to either: one level in
// 255 for one value of some thousand. Shares, means and decibels of pictures move that much.
const ROUNDED = 2e-3;

describe("order from chaos", () => {
  test("one look: the answers of four seeds, and their distances", async () => {
    const one = await Explorable.open(page, server.address, CHAOS, "one-look");
    await one.run("Ask once");
    const first = (await one.save()).data.looks;
    expect(first.length).toBe(1);
    first[0].answers.forEach((x0: number[], i: number) => expectNear(x0, golden["one-look"].first[i]));
    await one.run("Ask on the whole way down");
    const { looks } = (await one.save()).data;
    expectNear(looks.map((look: any) => look.distance), golden["one-look"].distances);
    expectNear([looks[0].spread, looks[11].spread], golden["one-look"].spread, ROUNDED);
  }, 300_000);

  test("reconstruct: the guesses of 20 steps", async () => {
    const one = await Explorable.open(page, server.address, CHAOS, "reconstruct");
    await one.run("Draw it, step by step");
    const { steps } = (await one.save()).data;
    expectNear(steps.slice(1).map((step: any) => step.sigma), golden.reconstruct.sigmas.slice(0, -1));
    expectNear(steps[9].x0, golden.reconstruct.middle);
    expectNear(steps[19].x0, golden.reconstruct.last);
    expectNear(steps.map((step: any) => step.sharpness), golden.reconstruct.sharpness, ROUNDED);
    // the last guesses differ from the finished picture by less than one level: rounding decides
    expectNear(steps.slice(0, 15).map((step: any) => step.psnr), golden.reconstruct.psnr.slice(0, 15), ROUNDED);
  }, 300_000);
});

describe("latent diffusion", () => {
  test("latent lab: latents, PSNR, and the harm of every channel", async () => {
    const one = await Explorable.open(page, server.address, LATENT, "latent-lab");
    await one.run("Encode it");
    await one.run("Measure the harm");
    const { latents, psnr_encode_decode, harm } = (await one.save()).data;
    expectNear(latents, golden["latent-lab"].latents);
    expectNear([psnr_encode_decode], [golden["latent-lab"].psnr], ROUNDED);
    harm.channels.forEach(({ psnr, changed }: any, c: number) => {
      expectNear([psnr], [golden["latent-lab"].harm[c][0]], ROUNDED);
      // one place of 256 may lie at the limit of 4 levels
      expect(Math.abs(changed - golden["latent-lab"].harm[c][1])).toBeLessThanOrEqual(1 / 256);
    });
  }, 300_000);
});

describe("CLIP", () => {
  test("CLIP matrix: cosines, and the probabilities of a row", async () => {
    const one = await Explorable.open(page, server.address, CLIP, "clip-matrix");
    await one.run("Compare captions");
    const { captions, cosines, temperature } = (await one.save()).data;
    expect(captions).toEqual(golden["clip-matrix"].captions);
    cosines.forEach((row: number[], i: number) => expectNear(row, golden["clip-matrix"].cosines[i]));
    expectNear([1 / temperature], [golden["clip-matrix"].scale]);
    await one.frame.getByText("each caption its picture").click();
    await one.slider("Temperature").press("ArrowRight");
    const { probabilities } = (await one.save()).data;
    for (let k = 0; k < 4; k++) {
      expectNear([probabilities.reduce((sum: number, row: number[]) => sum + row[k], 0)], [1]);
    }
  }, 300_000);

  test("word lens: the maps of all words, and the picture without one", async () => {
    const one = await Explorable.open(page, server.address, CLIP, "word-lens");
    await one.run("Draw it and record");
    await one.run("Draw the same seed without");
    const { words, psnr, word } = (await one.save()).data;
    expect(word).toBe("space");
    expect(words.map(({ text, tokens }: any) => [text, tokens])).toEqual(golden["word-lens"].words);
    for (const { text, map } of words) expectNear(map, golden["word-lens"].maps[text]);
    expectNear([psnr], [golden["word-lens"].psnr], ROUNDED);
    await one.frame.getByRole("radio", { name: "middle" }).check();
    await one.frame.getByRole("group", { name: "Step" }).getByRole("radio", { name: "4", exact: true }).check();
    expectNear((await one.save()).data.map, golden["word-lens"].layer);
  }, 300_000);
});

describe("prompts and sampling", () => {
  test("guidance plane: both answers, the guided one, its saturation", async () => {
    const one = await Explorable.open(page, server.address, PROMPTS, "guidance-plane");
    await one.run("Ask with and without");
    await one.frame.locator(".finding", { hasText: "of its colour values" }).waitFor();
    const { level, size, edge_share, histogram } = (await one.save()).data;
    const wanted = golden["guidance-plane"];
    expectNear([level.sigma, size], [wanted.sigma, wanted.size]);
    expectNear(level.cond, wanted.cond);
    expectNear(level.uncond, wanted.uncond);
    const { cond, uncond } = level.points;
    expectNear([Math.hypot(cond.x - uncond.x, cond.y - uncond.y)], [wanted.distance]);
    expectNear([edge_share], [wanted.edge_share], ROUNDED);
    expectNear(histogram.map((n: number) => n / 49152), wanted.histogram.map((n: number) => n / 49152), ROUNDED);
  }, 300_000);

  test("prompt bench: four seeds, before and after", async () => {
    const one = await Explorable.open(page, server.address, PROMPTS, "prompt-bench");
    await one.run("Draw four seeds", 580_000);
    const { seeds, up, coin_chance } = (await one.save()).data;
    seeds.forEach(({ measures, centre_before, centre_after }: any, i: number) => {
      [centre_before, centre_after].forEach((centre, k) => {
        const wanted = golden["prompt-bench"][i][k];
        expectNear([centre.x, centre.y], wanted.centre);
        for (const name of ["brightness", "colour", "lines"]) {
          expectNear([measures[name][k]], [wanted[name]], ROUNDED);
        }
      });
    });
    const wanted = golden["prompt-bench"].filter(([a, b]: any) => b.colour > a.colour).length;
    expect(up).toBe(wanted);
    expect(coin_chance).toBe([0.125, 0.625, 1, 0.625, 0.125][wanted]);
  }, 600_000);
});

describe("answers and cancels at once", () => {
  test("the first step comes within 2 s, and cancelling takes at most 200 ms", async () => {
    const one = await Explorable.open(page, server.address, CHAOS, "reconstruct");
    await one.run("Draw it, step by step"); // the model is loaded
    const { first, cancelled } = await one.frame.evaluate(async (frame) => {
      const press = (name: string) =>
        [...frame.querySelectorAll("button")].find((button) => button.textContent!.includes(name))!.click();
      const wait = async (met: () => boolean) => {
        const begun = performance.now();
        while (!met()) await new Promise(requestAnimationFrame);
        return performance.now() - begun;
      };
      const count = () => frame.querySelectorAll(".strip li").length;
      const isBusy = () => frame.querySelector(".stage")!.getAttribute("aria-busy") === "true";
      press("Draw it, step by step");
      const first = await wait(() => count() > 0 && count() < 20);
      await wait(isBusy); // the sign and its button come after 120 ms
      press("Cancel");
      return { first, cancelled: await wait(() => !isBusy()) };
    });
    expect(await one.frame.locator(".strip li").count()).toBeLessThan(20);
    expectPace("first step", first, 2000);
    expectPace("cancelling a drawing", cancelled, 200);
  }, 600_000);
});

test("no request leaves the site", () => expect(foreign).toEqual([]));
