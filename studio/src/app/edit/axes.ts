/** Axes of a grid: a setting and the values that it takes, as `fromnoise grid` writes them. */

import type { Body } from "./bodies.ts";

export interface Value {
  label: string;
  apply: (settings: Body) => Body;
}

interface Kind {
  id: string;
  label: string;
  type: "whole" | "number" | "text" | "size" | "words";
  example: string;
}

export const AXES: readonly Kind[] = [
  { id: "steps", label: "Steps", type: "whole", example: "4, 8, 20" },
  { id: "cfg", label: "Guidance", type: "number", example: "1-7 (+2)" },
  { id: "seed", label: "Seed", type: "whole", example: "1-4" },
  { id: "prompt:", label: "Words of the prompt", type: "words", example: "cat = dog, fox" },
  { id: "prompt", label: "The whole prompt", type: "text", example: '"a cat, red", a dog' },
  { id: "negative_prompt", label: "What to stay away from", type: "text", example: "snow, water" },
  { id: "sampler", label: "Sampler", type: "text", example: "euler, dpmpp_2m" },
  { id: "spacing", label: "Spacing", type: "text", example: "karras, sgm_uniform" },
  { id: "size", label: "Size", type: "size", example: "128, 192x128" },
  { id: "cfg_rescale", label: "Guidance rescale", type: "number", example: "0-1 [3]" },
  { id: "clip_skip", label: "Layer of the text encoder", type: "whole", example: "1, 2" },
  { id: "eta", label: "Fresh noise a step (eta)", type: "number", example: "0, 0.5, 1" },
];

const MOST = 400; // values of one axis
const NUMBER = String.raw`([+-]?\d+(?:\.\d+)?)`;
const ONE = new RegExp(`^${NUMBER}$`);
const RANGE = new RegExp(String.raw`^${NUMBER}\s*-\s*${NUMBER}\s*(?:\(\s*([+-]\d+(?:\.\d+)?)\s*\)|\[\s*(\d+)\s*\])?$`);

/** The values between commas; one in double quotes may have commas, and "" for a quote. */
export function splitValues(text: string): string[] {
  const values: string[] = [];
  const part = /\s*(?:"((?:[^"]|"")*)"|([^",][^,]*|))\s*(,|$)/gy;
  for (let end = 0; end <= text.length; ) {
    part.lastIndex = end;
    const found = part.exec(text);
    if (!found) throw new Error(`The values cannot be taken apart at “${text.slice(end, end + 20)}”: close the double quotes.`);
    values.push(found[1] === undefined ? found[2].trim() : found[1].replaceAll('""', '"'));
    if (found[3] === "") break;
    end = part.lastIndex;
  }
  return values;
}

/** 1-5 → 1 2 3 4 5; 10-5 (-3) → 10 7; 1-10 [4] → 1 4 7 10; never past the end. */
function expand(text: string, whole: boolean): number[] {
  if (ONE.test(text)) return [check(Number(text), text, whole)];
  const found = RANGE.exec(text);
  if (!found) throw new Error(`“${text}” is no number. Write 4, or a range: 1-7, 1-7 (+2), 1-10 [5].`);
  const [start, end] = [Number(found[1]), Number(found[2])];
  const round = (value: number) => Number(value.toFixed(10));
  if (found[4]) {
    const count = Number(found[4]);
    if (count < 1 || count > MOST) throw new Error(`“${text}” has no such number of values: give 1 to ${MOST}.`);
    const values = Array.from({ length: count }, (_, i) => round(start + ((end - start) * i) / Math.max(count - 1, 1)));
    return whole ? values.map(Math.trunc) : values;
  }
  const step = found[3] ? Number(found[3]) : end >= start ? 1 : -1;
  if (!step || (end - start) / step < 0) throw new Error(`“${text}” never comes from ${start} to ${end}: turn the sign of the step.`);
  const count = Math.floor(round((end - start) / step)) + 1;
  if (count > MOST) throw new Error(`“${text}” has more than ${MOST} values: take greater steps.`);
  return Array.from({ length: count }, (_, i) => check(round(start + step * i), text, whole));
}

function check(value: number, text: string, whole: boolean): number {
  if (whole && !Number.isInteger(value)) throw new Error(`“${text}” has values that are no whole numbers.`);
  return value;
}

function set(name: string, value: unknown): (settings: Body) => Body {
  return (settings) => {
    const changed = { ...settings, [name]: value };
    if (name === "steps" || name === "cfg" || name === "sampler" || name === "spacing") delete changed.preset;
    return changed;
  };
}

/** An axis as settings write it: the words that are replaced belong to its name. */
export function describeAxis(id: string, text: string): { name: string; values: string } {
  if (id !== "prompt:") return { name: id, values: text.trim() };
  const [part, ...rest] = text.split("=");
  return { name: id + part.trim(), values: rest.join("=").trim() };
}

/** The values of an axis. Throws an Error that says what is wrong with the text. */
export function parseAxis(id: string, text: string, prompt: string): Value[] {
  const kind = AXES.find((one) => one.id === id);
  if (!kind) throw new Error(`There is no axis “${id}”.`);
  if (!text.trim()) throw new Error(`${kind.label}: give values, such as ${kind.example}`);
  if (kind.type === "words") {
    const [part, ...rest] = text.split("=");
    const search = part.trim();
    if (!rest.length || !search) throw new Error(`Say what is replaced by what, such as ${kind.example}`);
    if (!prompt.includes(search)) throw new Error(`The prompt does not have “${search}”: say a part of it that is to change.`);
    return splitValues(rest.join("=")).map((value) => ({
      label: value || "(nothing)",
      apply: (settings) => ({ ...settings, prompt: String(settings.prompt ?? "").replaceAll(search, () => value) }),
    }));
  }
  const values = splitValues(text);
  if (kind.type === "whole" || kind.type === "number") {
    const numbers = values.flatMap((value) => expand(value, kind.type === "whole"));
    if (numbers.length > MOST) throw new Error(`${kind.label} has more than ${MOST} values.`);
    return numbers.map((value) => ({ label: `${kind.label.toLowerCase()} ${value}`, apply: set(id, value) }));
  }
  if (kind.type === "size") {
    return values.map((value) => {
      const found = /^(\d+)(?:\s*[x×]\s*(\d+))?$/.exec(value);
      if (!found) throw new Error(`“${value}” is no size: write 128, or 192x128 (width x height).`);
      const [width, height] = [Number(found[1]), Number(found[2] ?? found[1])];
      return { label: `${width} × ${height}`, apply: (settings) => ({ ...settings, width, height }) };
    });
  }
  return values.map((value) => ({ label: value || "(nothing)", apply: set(id, value) }));
}
