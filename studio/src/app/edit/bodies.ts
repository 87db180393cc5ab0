/** From what a person sets in the editor to what the server is asked. */

import type { Extension } from "./extend.ts";

export interface Words {
  prompt: string;
  negative_prompt: string;
  steps: number | null; // null: as the model prefers
  cfg: number | null;
  seed: string; // "": a random one
  count: number;
}

export type Body = Record<string, unknown>;
export interface Asked {
  kind: string;
  body: Body;
}

/** Settings of a picture that hold for another picture drawn from it. */
const CARRIED = [
  "dialect", "prompt_steps", "clip_skip", "cfg_rescale", "cfg_sigma_min", "cfg_sigma_max", "skip_uncond_below", "apg",
  "apg_parallel", "apg_norm", "apg_momentum", "preset", "sampler", "spacing", "eta", "s_churn", "s_tmin", "s_tmax",
  "s_noise", "sampler_options", "spacing_options", "discard_penultimate", "noise_scaling", "final_sigma", "timesteps",
  "rng", "eta_noise_seed_delta", "vae",
];
const OF_WORDS = ["prompt", "negative_prompt", "steps", "cfg"] as const;

const HASH = /^[0-9a-f]{64}$/;

/** Whether a value names the content of an upload: the server's record has such hashes, which no request
 * can name. */
export function hasHash(value: unknown): boolean {
  if (typeof value === "string") return HASH.test(value);
  return typeof value === "object" && value !== null && Object.values(value).some(hasHash);
}

/** Add-ons: those that can be asked for again, and the names of those that look at uploads. */
export function partAddons(addons: Body): { kept: Body; lost: string[] } {
  const kept = Object.fromEntries(Object.entries(addons).filter(([, value]) => !hasHash(value)));
  return { kept, lost: Object.keys(addons).filter((name) => !(name in kept)) };
}

/** The words of a film's first key frame: its frames have no prompt of their own. */
const firstOf = (prompts: unknown) => (Array.isArray(prompts) && typeof prompts[0] === "string" ? prompts[0] : "");

/** What a picture shows, in words; "" where its settings say none. */
export const tellWords = (settings: Body): string =>
  typeof settings.prompt === "string" && settings.prompt ? settings.prompt : firstOf(settings.prompts);

/** The settings to go on with, and notes on what cannot be taken over. */
export function carryOver(settings: Body, model: string): { words: Words; more: Body; notes: string[] } {
  const text = (name: string) => (typeof settings[name] === "string" ? (settings[name] as string) : "");
  const number = (name: string) => (typeof settings[name] === "number" ? (settings[name] as number) : null);
  const words = {
    prompt: text("prompt") || firstOf(settings.prompts), negative_prompt: text("negative_prompt"), steps: number("steps"), cfg: number("cfg"), seed: "", count: 1,
  };
  const more: Body = { model };
  const notes: string[] = [];
  for (const name of CARRIED) if (settings[name] !== undefined && settings[name] !== null) more[name] = settings[name];
  const addons = settings.addons;
  if (typeof addons === "object" && addons !== null) {
    const { kept, lost } = partAddons(addons as Body);
    if (Object.keys(kept).length) more.addons = kept;
    if (lost.length) notes.push(`These look at pictures of their own and are left out: ${lost.join(", ")}.`);
  }
  return { words, more, notes };
}

/** A whole number as JSON can carry it: beyond what JavaScript counts exactly it stays a text. */
export function writeSeed(seed: string): number | string {
  const value = Number(seed);
  return Number.isSafeInteger(value) ? value : seed;
}

/** Settings without those that are left to the model. */
export function writeWords(words: Words, more: Body): Body {
  const body: Body = { ...more, count: words.count };
  for (const name of OF_WORDS) if (words[name] !== null && words[name] !== "") body[name] = words[name];
  if (words.steps !== null || words.cfg !== null) delete body.preset; // which says both
  if (words.seed) body.seed = writeSeed(words.seed);
  return body;
}

export interface Inpaint {
  strength: number;
  content: string;
  mask_blur: number;
  only_masked: boolean;
  padding: number;
}

export function askInpaint(words: Words, more: Body, image: string, mask: string, inpaint: Inpaint): Asked {
  const { padding, ...rest } = inpaint;
  const body = { ...writeWords(words, more), image, mask, ...rest, ...(inpaint.only_masked && { padding }) };
  return { kind: "edit", body };
}

export function askExtend(
  words: Words, more: Body, image: string, extension: Extension, strength: number, content: string, mask_blur: number,
): Asked {
  const sides = Object.fromEntries(Object.entries(extension).filter(([, n]) => n).map(([side, n]) => [`extend_${side}`, n]));
  return { kind: "edit", body: { ...writeWords(words, more), image, strength, content, mask_blur, ...sides } };
}

export function askRedraw(words: Words, more: Body, image: string, strength: number): Asked {
  return { kind: "edit", body: { ...writeWords(words, more), image, strength } };
}

export interface Drawn {
  settings: Body;
  model: string;
  seed: string;
  index: number; // among the pictures of its job
}

/** The settings of the same picture again, alone. */
function repeat({ settings, model, seed, index }: Drawn): Body {
  const body: Body = { ...settings, model, seed: writeSeed(seed), count: 1 };
  if (settings.variation_strength) body.variation_seed = writeSeed(String(BigInt(String(settings.variation_seed)) + BigInt(index)));
  return body;
}

/** Pictures near to one: their noise lies on the way from its own to another. */
export function askVariations(kind: string, drawn: Drawn, strength: number, count: number): Asked {
  const body: Body = { ...repeat(drawn), variation_strength: strength, count };
  delete body.variation_seed; // a new one
  return { kind, body };
}

export interface TwoPass {
  scale: number;
  strength: number;
  upscaler: string; // "": as the model prefers
}

/** The same picture, drawn small and then large. */
export function askTwoPass(drawn: Drawn, two: TwoPass): Asked {
  const body: Body = { ...repeat(drawn), hires_scale: two.scale, hires_strength: two.strength };
  delete body.hires_width;
  delete body.hires_height;
  if (two.upscaler) body.hires_upscaler = two.upscaler;
  return { kind: "hires", body };
}

/** Why a picture cannot be drawn again from its seed; "" where it can. */
export function refuseRepeat(kind: string | null, settings: Body): string {
  if (kind === null) return "The server no longer knows how this picture was drawn.";
  if (kind === "film") return "This picture is a frame of a film, drawn between two seeds.";
  if (kind !== "generate" && kind !== "hires") return "This picture was not drawn from a seed alone, but from another picture.";
  if (hasHash(settings)) return "This picture was drawn with other pictures beside it.";
  return "";
}

/** Why a picture has no variations of its seed; "" where it has. */
export function refuseVariations(kind: string | null, settings: Body): string {
  if (settings.variation_strength) return "This picture is a variation already, and a seed varies only once.";
  return refuseRepeat(kind, settings);
}
