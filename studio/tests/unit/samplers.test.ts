import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { beforeAll, expect, test } from "vitest";
import type { PythonWorker } from "../../src/engine/python.ts";
import { ReaderError } from "../../src/engine/types.ts";
import { readGolden } from "./golden.ts";
import { startPython } from "./pythonTools.ts";

interface Golden {
  mixture: { means: number[][]; weights: number[]; deviation: number };
  runs: [string, number[], number[], number[], number][];
}

const golden = readGolden<Golden>("samplers");
let python: PythonWorker;
beforeAll(async () => {
  python = await startPython();
}, 60_000);

/** E[x0 | x] of the mixture, x as points of a plane. */
function denoise(x: Float64Array, sigma: number): Float64Array {
  const { means, weights, deviation } = golden.mixture;
  const variance = deviation ** 2 + sigma ** 2;
  const x0 = new Float64Array(x.length);
  for (let i = 0; i < x.length; i += 2) {
    const logs = means.map(
      ([a, b], k) => Math.log(weights[k]) - ((x[i] - a) ** 2 + (x[i + 1] - b) ** 2) / (2 * variance),
    );
    const highest = Math.max(...logs);
    const shares = logs.map((log) => Math.exp(log - highest));
    const total = shares.reduce((a, b) => a + b);
    for (const axis of [0, 1]) {
      const mean = shares.reduce((sum, share, k) => sum + (share / total) * means[k][axis], 0);
      x0[i + axis] = mean + (deviation ** 2 / variance) * (x[i + axis] - mean);
    }
  }
  return x0;
}

const draw = (sigma: number, next: number) =>
  Float64Array.from({ length: 24 }, (_, i) =>
    1.4 * Math.sin(i * 12.9898 + 3 * Math.log(sigma) + 5 * Math.log(next)),
  );

test("every sampler of the repository runs in the tab and ends where Python's does", async () => {
  const names = await python.samplers();
  expect(names).toHaveLength(47);
  expect(new Set(golden.runs.map(([name]) => name))).toEqual(new Set(names));
  for (const [name, sigmas, x, want, count] of golden.runs) {
    const { x: got, calls } = await python.sample(
      { name }, Float64Array.from(x), sigmas, denoise, { noise: draw },
    );
    expect(calls, name).toBe(count);
    // float64 on both sides; the stand-in's rounding is PyTorch's, sin and exp are other libraries'
    for (let i = 0; i < want.length; i++) {
      expect(Math.abs(got[i] - want[i]), `${name}, value ${i}`).toBeLessThanOrEqual(1e-9);
    }
  }
}, 120_000);

test("the sampler files in the tab are byte for byte those in src/", async () => {
  const folder = new URL("../../../src/fromnoise/diffusion/samplers/", import.meta.url);
  const files = readdirSync(folder).filter((name) => name.endsWith(".py"));
  const hashes = files.map((name) =>
    createHash("sha256").update(readFileSync(new URL(name, folder))).digest("hex"),
  );
  const prefix = "/fromnoise/fromnoise/diffusion/samplers/";
  const got = await python.call("tab_files.hash_files", [files.map((name) => prefix + name)]);
  expect(got).toEqual(hashes);
});

test("a sampler of the reader's own runs, with options", async () => {
  const [, sigmas, x, want] = golden.runs.find(([name]) => name === "euler")!;
  const source = readFileSync(
    new URL("../../../src/fromnoise/diffusion/samplers/euler.py", import.meta.url), "utf8",
  );
  const run = (options: Record<string, number>) =>
    python.sample({ source, function: "euler" }, Float64Array.from(x), sigmas, denoise, {
      noise: draw, options,
    });
  const { x: got } = await run({});
  got.forEach((value, i) => expect(value).toBeCloseTo(want[i], 9));
  expect((await run({ s_churn: 2 })).x).not.toEqual(got);
  await expect(run({ churn: 2 })).rejects.toThrow(/no option churn. It takes: s_churn/);
});

async function fail(source: string, seconds = 0.5): Promise<ReaderError> {
  const [, sigmas, x] = golden.runs[0];
  const error = await python
    .sample({ source, function: "mine" }, Float64Array.from(x), sigmas, denoise, { seconds })
    .catch((reason) => reason);
  expect(error).toBeInstanceOf(ReaderError);
  return error as ReaderError;
}

test("faults of the reader's code come back with their line", async () => {
  expect(await fail("def mine(:\n")).toMatchObject({ line: 1, kind: "SyntaxError" });
  expect(await fail("def other(): pass")).toMatchObject({ kind: "NoFunction" });
  expect(await fail("def mine(x, sigmas, noise):\n    return x")).toMatchObject({
    line: 1, kind: "NoQuestion",
  });
  const head =
    "from fromnoise.diffusion.samplers.base import Query\ndef mine(x, sigmas, noise):\n";
  expect(await fail(`${head}    y = 1 / 0\n    yield Query(x, 1.0, 0)`)).toMatchObject({
    line: 3, kind: "ZeroDivisionError",
  });
  expect(await fail(`${head}    x0 = (yield 3)\n    return x`)).toMatchObject({ kind: "NoQuery" });
  expect(
    await fail(`${head}    x0 = (yield Query(x, 1.0, 0)).x0\n    return x0.median()`),
  ).toMatchObject({ line: 4, kind: "Missing", message: expect.stringContaining("median") });
  expect(
    await fail(`${head}    x0 = (yield Query(x, 1.0, 0)).x0\n    return 3`),
  ).toMatchObject({ kind: "NoTensor" });
});

test("an endless loop ends, with the line that ran", async () => {
  const source =
    "from fromnoise.diffusion.samplers.base import Query\ndef mine(x, sigmas, noise):\n" +
    "    x0 = (yield Query(x, 1.0, 0)).x0\n    while True:\n        x = x\n";
  const error = await fail(source);
  expect(error.kind).toBe("OutOfTime");
  expect([4, 5]).toContain(error.line);
});

test("an aborted run rejects at once", async () => {
  const [, sigmas, x] = golden.runs[0];
  const controller = new AbortController();
  const run = python.sample({ name: "euler" }, Float64Array.from(x), sigmas, (y, sigma, step) => {
    if (step === 2) controller.abort();
    return denoise(y, sigma);
  }, { signal: controller.signal });
  await expect(run).rejects.toMatchObject({ name: "AbortError" });
});

test("a call that fails says why", async () => {
  await expect(python.call("sampling.none_such", [])).rejects.toThrow(/none_such/);
});
