import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Picture } from "../../src/engine/types.ts";
import { coinChance, findColour, measureBrightness, measureColour, nameColour } from "../../src/lab/bench.ts";
import { listCosines, listProbabilities } from "../../src/lab/clip.ts";
import { applyCfg, guidePoint, projectAnswers } from "../../src/lab/guidance.ts";
import { applyEdit, keepAll, pretendLatents, scaleChannel, swapChannels } from "../../src/lab/latents.ts";
import { findArea, findCentre, groupTokens, readWord, removeWord, shortenLayer, type Maps } from "../../src/lab/maps.ts";
import { average, averageDistance, distance, edgeShare, histogram, listColours, measureChange, measureEdges, measureSpread, psnr, rms } from "../../src/lab/measure.ts";

// written by tests/write_golden.py from the Python package
const golden = JSON.parse(readFileSync(new URL("../../generated/golden/pictures.json", import.meta.url), "utf8"));
const [x0, uncond] = [Float32Array.from(golden.x0), Float32Array.from(golden.uncond)];

function makePicture(colours: number[]): Picture {
  const pixels = new Uint8ClampedArray((colours.length / 3) * 4).fill(255);
  colours.forEach((value, i) => (pixels[Math.floor(i / 3) * 4 + (i % 3)] = value));
  const side = Math.sqrt(colours.length / 3);
  return { width: side, height: side, pixels };
}
const [a, b] = [makePicture(golden.a), makePicture(golden.b)];

/** 1e-6: both sides compute in float32, whose last place is 1e-7 of values up to about 10. */
function expectNear(values: ArrayLike<number>, wanted: number[], tolerance = 1e-6) {
  expect(values.length).toBe(wanted.length);
  const worst = Math.max(...wanted.map((w, i) => Math.abs(values[i] - w) / Math.max(1, Math.abs(w))));
  expect(worst).toBeLessThan(tolerance);
}

describe("measure", () => {
  test("means and distances are Python's", () => {
    expectNear(average([x0, uncond]), golden.average);
    expectNear([rms(x0), distance(x0, uncond)], [golden.rms, golden.distance]);
    expect(averageDistance([x0, uncond, x0])).toBeCloseTo((golden.distance * 2) / 3, 6);
  });
  test("figures of pictures are Python's", () => {
    expect(Array.from(listColours(a))).toEqual(golden.a);
    expectNear([psnr(a, b), edgeShare(a)], [golden.psnr, golden.edge_share], 1e-12);
    expect(psnr(a, a)).toBe(Infinity);
    expect(histogram(listColours(a), 8, 0, 256)).toEqual(golden.histogram);
    expectNear(
      [measureBrightness(a), measureColour(a), measureEdges(a), measureSpread([a, b]), measureChange(a, b, 2)],
      [golden.brightness, golden.colour, golden.edges, golden.spread, golden.change], 1e-12,
    );
    expectNear(findColour(b, golden.area), golden.bright, 1e-12);
  });
  test("values outside of a histogram count at its ends", () => {
    expect(histogram([-3, 0.1, 7], 2, 0, 1)).toEqual([2, 1]);
  });
});

describe("latents", () => {
  const latents = Float32Array.from({ length: 12 }, (_, i) => i); // 3 channels of 4 values
  test("channels are scaled, taken out and exchanged", () => {
    expect(applyEdit(latents, keepAll(3))).toEqual(latents);
    const edit = swapChannels(scaleChannel(scaleChannel(keepAll(3), 0, 2), 1, 0), 0, 2);
    expect(Array.from(applyEdit(latents, edit))).toEqual([16, 18, 20, 22, 0, 0, 0, 0, 0, 1, 2, 3]);
  });
  test("a small picture in place of latents", () => {
    const pretended = pretendLatents(a, { channels: 4, height: 4, width: 4 });
    expectNear(pretended, [...golden.means, ...golden.means.slice(0, 16)]);
  });
});

describe("guidance", () => {
  test.each(Object.keys(golden.guided))("scale %s is apply_cfg's", (scale) => {
    expectNear(applyCfg(x0, uncond, Number(scale)), golden.guided[scale]);
  });
  test("a point of the plane is as far from zero as the latents are large", () => {
    const { uncond: from, cond } = projectAnswers(x0, uncond);
    for (const [scale, wanted] of Object.entries(golden.guided_rms)) {
      const { x, y } = guidePoint(from, cond, Number(scale));
      expectNear([Math.hypot(x, y)], [wanted as number]);
    }
    expectNear([Math.hypot(cond.x - from.x, cond.y - from.y)], [golden.distance]);
  });
});

describe("CLIP", () => {
  const [rows, columns] = [golden.rows, golden.columns].map((v) => v.map((u: number[]) => Float32Array.from(u)));
  test("cosines and probabilities are Python's", () => {
    const cosines = listCosines(rows, columns);
    expectNear(cosines.flat(), golden.cosines.flat());
    for (const along of ["rows", "columns"] as const) {
      const chances = listProbabilities(cosines, 0.07, along);
      // the temperature makes errors of the cosines 1 / 0.07 times as large
      expectNear(chances.flat(), golden.probabilities[along].flat(), 1e-5);
    }
  });
});

describe("maps", () => {
  const calls: Maps[] = golden.maps.map((maps: Record<string, number[]>) =>
    Object.fromEntries(Object.entries(maps).map(([name, values]) => [
      name, { data: Float32Array.from(values), heads: 2, pixels: values.length / 10, tokens: 5 },
    ])),
  );
  test("a word's map is Trace.map's", () => {
    const map = readWord(calls, [2, 3], 8);
    expectNear(map, golden.word);
    expectNear(readWord([calls[1]], [2, 3], 8, ["mid_block.attentions.0"]), golden.word_of_one);
    const { x, y } = findCentre(findArea(map));
    expectNear([x, y], golden.centre);
  });
  test.each(Object.keys(golden.words))("the words of %j are split_words'", (text) => {
    const { pieces, words } = golden.words[text];
    expect(groupTokens(text, pieces).map(({ text, tokens }) => [text, tokens])).toEqual(words);
  });
  test("a word is taken out of a prompt", () => {
    expect(removeWord("a neon cat in space", 1)).toBe("a cat in space");
    expect(removeWord("Two cats, two dogs", 3)).toBe("Two cats, dogs");
  });
  test("names of layers are short", () => {
    expect(shortenLayer("up_blocks.0.attentions.1.transformer_blocks.0.attn2")).toBe("up 0.1");
    expect(shortenLayer("mid_block.attentions.0.transformer_blocks.0.attn2")).toBe("middle");
  });
});

test("colours have names", () => {
  const named = { red: [230, 60, 50], yellow: [250, 220, 60], cyan: [70, 220, 240], blue: [90, 110, 250],
    purple: [170, 80, 240], pink: [250, 100, 180], white: [250, 245, 240], black: [20, 10, 30] };
  for (const [name, colour] of Object.entries(named)) expect(nameColour(colour)).toBe(name);
});

test("coins: four that agree are one case in eight", () => {
  expect(coinChance(4, 4)).toBe(0.125);
  expect(coinChance(1, 4)).toBe(0.625);
  expect(coinChance(2, 4)).toBe(1);
  expect(coinChance(1, 1)).toBe(1);
});
