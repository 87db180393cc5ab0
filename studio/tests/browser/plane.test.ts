/** The explorables of the plane and of the race, in the built site: their figures are Python's, they
 * answer quickly, and they are worked by the keyboard. */

import { createRequire } from "node:module";
import { chromium, type Browser, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readGolden } from "../unit/golden.ts";
import { expectPace } from "../pace.ts";
import { Explorable } from "./explorable.ts";
import { serve, type StaticServer } from "./server.ts";

const site = process.env.SITE ?? new URL("../../../src/fromnoise/learn/site/", import.meta.url).pathname;
const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const [CHAOS, PROMPTS, TRAIN] = ["1-order-from-chaos.html", "4-prompts-and-sampling.html", "5-train-one-yourself.html"];
const MINUTES = 300_000; // for a machine that is busy with other things

let server: StaticServer;
let browser: Browser;
let page: Page;
const faults: string[] = []; // errors, and requests that left the site

beforeAll(async () => {
  server = await serve({ "": site });
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  // axe is a script that the pages' policy does not admit
  const context = await browser.newContext({ reducedMotion: "reduce", bypassCSP: true });
  page = await context.newPage();
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("request", (request) => {
    if (!/^(blob:|data:)/.test(request.url()) && !request.url().startsWith(server.address)) faults.push(request.url());
  });
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  expect(faults).toEqual([]);
});

/** 1e-4 of their size: the course's promise. */
function expectNear(values: ArrayLike<number>, wanted: ArrayLike<number>): void {
  expect(values.length).toBe(wanted.length);
  expect(Math.max(...Array.from(wanted, (w, i) => Math.abs(values[i] - w) / Math.max(Math.abs(w), 1e-3)))).toBeLessThan(1e-4);
}

async function expectAccessible(explorable: Explorable): Promise<void> {
  await page.addScriptTag({ path: axe });
  const handle = await explorable.frame.elementHandle();
  const violations = await page.evaluate(async (frame) => {
    const { violations } = await (window as any).axe.run(frame);
    return violations.map((v: any) => `${v.id}: ${v.nodes.map((n: any) => n.target.join(" ")).slice(0, 4)}`);
  }, handle);
  expect(violations).toEqual([]);
}

test("destroy: ᾱ, σ and SNR are Python's, and a move is answered at once", async () => {
  const one = await Explorable.open(page, server.address, CHAOS, "destroy");
  const canvas = one.frame.getByRole("img", { name: /noisy picture/ });
  await canvas.waitFor();
  const slider = one.slider("timestep t");
  for (const [name, t, alphaBar, sigma, snr] of readGolden<any>("destroy").rows.filter((row: any) => row[0] === "bundled")) {
    await slider.fill(String(t));
    const { values } = await one.save();
    expect(values.schedule).toBe(name);
    expectNear([values.alpha_bar, values.sigma, values.snr], [alphaBar, sigma, snr]);
  }
  const times: number[] = [];
  for (let i = 0; i < 20; i++) {
    const start = Date.now();
    await slider.press("ArrowLeft");
    await one.frame.getByRole("img", { name: `at t = ${998 - i}`, exact: false }).waitFor();
    times.push(Date.now() - start);
  }
  expectPace("p95 of moving t", times.sort((a, b) => a - b)[18], 2000);
  await expectAccessible(one);
}, MINUTES);

test("exact field: the arrows of a ring are Python's, particles reach it, points are drawn by keys", async () => {
  const one = await Explorable.open(page, server.address, CHAOS, "exact-field");
  await one.frame.getByRole("radio", { name: "ring" }).check();
  const { arrows } = (await one.save()).data;
  expectNear(arrows.flatMap((a: any) => [a.dx, a.dy]), readGolden<any>("field").ring);
  expectPace("40 particles", await one.run("Let 40 particles follow"), 2000);
  const { particles } = (await one.save()).data;
  for (const [x, y] of particles) expect(Math.abs(Math.hypot(x, y) - 1)).toBeLessThan(0.2);
  await one.frame.getByRole("application").press("ArrowRight");
  await one.frame.getByRole("application").press("Enter");
  expect((await one.save()).data.points).toEqual([[expect.closeTo(0.1, 9), 0]]);
  await expectAccessible(one);
}, MINUTES);

test("solver race: every error is Python's, on the ODE and along the kept path", async () => {
  const { errors, path } = readGolden<any>("race");
  const one = await Explorable.open(page, server.address, PROMPTS, "solver-race");
  await one.run("Race");
  let { races } = (await one.save()).data;
  for (const name of ["euler", "heun", "dpmpp_2m"])
    expectNear(races[name].map((p: any) => p.error), errors[name]);
  expect(races.heun.map((p: any) => p.calls)).toEqual([4, 8, 16, 32, 64, 128, 256]);
  const fresh = races["euler_a fresh 1"].map((p: any) => p.error);
  expect(Math.min(...fresh)).toBeGreaterThan(0.5); // it never settles
  await one.frame.getByRole("checkbox", { name: "DPM++ 2M SDE" }).check();
  await one.frame.getByRole("radio", { name: "a kept Brownian path" }).check();
  await one.end();
  ({ races } = (await one.save()).data);
  for (const name of ["euler_a", "dpmpp_2m_sde"])
    expectNear(races[`${name} path 1`].map((p: any) => p.error), path[name]);
  await expectAccessible(one);
}, MINUTES);

test("schedules: levels move by keys, and a picture is drawn on them", async () => {
  const one = await Explorable.open(page, server.address, PROMPTS, "schedules");
  const before = (await one.save()).data.own;
  const level = one.slider("level 5 of 8");
  await level.press("ArrowRight");
  await level.press("ArrowRight");
  const after = (await one.save()).data.own;
  expect(after[4]).toBeCloseTo(before[4] / 1.05 ** 2, 9);
  await one.slider("steps").fill("4");
  await one.run("Draw on your levels");
  expect(await one.frame.getByRole("img", { name: /drawn on your levels/ }).count()).toBe(1);
  await expectAccessible(one);
}, MINUTES);

const HEUN = `        d = (x - (yield Query(x, s, i)).x0) / s
        x2 = x + d * (t - s)
        if t > 0:
            d2 = (x2 - (yield Query(x2, t, i, stage=1)).x0) / t
            x2 = x + (d + d2) / 2 * (t - s)
        x = x2
`;

test("write a sampler: the race follows the code, faults have a line, endless loops end", async () => {
  const one = await Explorable.open(page, server.address, PROMPTS, "write-a-sampler");
  const editor = one.frame.locator(".cm-content");
  const write = async (edit: (source: string) => string) => {
    const { source } = (await one.save()).data;
    await editor.click();
    await page.keyboard.press("Control+a");
    await page.keyboard.insertText(edit(source));
  };
  const { errors } = readGolden<any>("race");
  await one.run("Run the race");
  let { data } = await one.save();
  expectNear(data.races.own.map((p: any) => p.error), errors.euler);
  expect(data.questions_in_10_steps).toEqual({ own: 10, euler: 10, heun: 19 });

  await write((source) => source.replace(/ {8}d = .*\n {8}x = x \+ d \* \(t - s\)\n/, HEUN));
  await one.run("Run the race");
  ({ data } = await one.save());
  expectNear(data.races.own.map((p: any) => p.error), errors.heun);
  expect(data.questions_in_10_steps.own).toBe(19);
  await expectAccessible(one);

  const expectFault = async (message: string) => {
    await one.button("Run the race").click();
    await one.frame.getByRole("alert").filter({ hasText: message }).waitFor({ timeout: 60_000 });
  };
  await write((source) => source.replace("        x2 = x + d * (t - s)\n", "        x2 = x / 0\n"));
  await expectFault("values that are not numbers"); // a tensor divided by 0 is infinite, as in torch
  await write((source) => source.replace("        x2 = x / 0\n", "        x2 = x * (1 / 0)\n"));
  await expectFault("division by zero");
  expect(await one.frame.locator(".cm-fault").innerText()).toContain("x2 = x * (1 / 0)");

  await write((source) => source.replace("        x2 = x * (1 / 0)\n", "        while True: pass\n"));
  await expectFault("Is there an endless loop?");
  await one.button("Back to euler.py").click();
  await one.run("Run the race"); // Python is there again

  await editor.press("Tab");
  expect(await editor.evaluate((element) => element.contains(document.activeElement))).toBe(false);
}, MINUTES);

test("train on points: the loss falls towards its floor, and a training is cancelled at once", async () => {
  const one = await Explorable.open(page, server.address, TRAIN, "train-on-points");
  await one.slider("training steps").fill("400");
  await one.run("Train");
  const { curve, drawn } = (await one.save()).data;
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const [first, last] = [curve.slice(0, 2), curve.slice(-3)].map((part) => mean(part.map((s: any) => s.loss)));
  const floor = mean(curve.map((s: any) => s.floor));
  expect(last).toBeLessThan(first);
  expect(last).toBeGreaterThan(floor - 0.1); // 7,680 noisy points: 0.03 of noise
  expect(last).toBeLessThan(floor + 0.3);
  const radii = Array.from({ length: drawn.length / 2 }, (_, i) => Math.hypot(drawn[2 * i], drawn[2 * i + 1]));
  expect(mean(radii.map((r) => Math.abs(r - 1)))).toBeLessThan(0.2);
  await expectAccessible(one);

  await one.slider("training steps").fill("4000");
  await one.button("Train").click();
  await one.frame.getByText(/Step \d+ of 4000/).waitFor();
  const start = Date.now();
  await one.button("Cancel").click();
  await one.status.filter({ hasText: "Cancelled." }).waitFor();
  expectPace("cancelling a training", Date.now() - start, 200);
  const text = await one.frame.getByText(/Step \d+ of/).innerText();
  await page.waitForTimeout(500);
  expect(await one.frame.getByText(/Step \d+ of/).innerText()).toBe(text); // nothing goes on
}, MINUTES);
