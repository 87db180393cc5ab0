/** The add-ons of a request: which fields they stand in, their files, their names, and words of a prompt. */

import type { Schemas } from "../api.ts";

export type AddonFile = Schemas["AddonOut"];
export interface Item {
  name: string;
  weight?: number;
  image?: string;
  pictures?: string[];
  [more: string]: unknown;
}
export type Field = "loras" | "embeddings" | "controls" | "ip_adapters";
/** Fields of a request → the kinds of files that they name. */
export const FIELDS: Record<Field, { of: string[]; picture?: "image" | "pictures"; weighs: boolean }> = {
  loras: { of: ["lora"], weighs: true },
  embeddings: { of: ["embedding"], weighs: false },
  controls: { of: ["controlnet", "t2i-adapter"], picture: "image", weighs: true },
  ip_adapters: { of: ["ip-adapter"], picture: "pictures", weighs: true },
};
/** Kinds of files → what a person calls them. */
export const TITLES: Record<string, string> = {
  lora: "LoRA", embedding: "Embedding", controlnet: "ControlNet", "t2i-adapter": "T2I-Adapter", "ip-adapter": "IP-Adapter",
};
export const fieldOf = (kind: string): Field | undefined => (Object.keys(FIELDS) as Field[]).find((field) => FIELDS[field].of.includes(kind));

/** The items of a field of add-ons as an address may have them: those that name a file. */
export function itemsOf(addons: Partial<Record<Field, unknown>>, field: Field): Item[] {
  const items = addons[field];
  return Array.isArray(items) ? items.filter((item) => typeof item?.name === "string") : [];
}

const ENDING = /\.(safetensors|ckpt|pth?|bin|gguf)$/i;
// names that every file of a kind may have: the folder says which one it is
const PLAIN = new Set(["diffusion_pytorch_model", "pytorch_lora_weights", "adapter_model", "learned_embeds", "model"]);

/** A name without its folder and its ending. */
export function shorten(name: string): string {
  const parts = name.split("/");
  const last = parts.at(-1)!.replace(ENDING, "");
  return PLAIN.has(last) && parts.length > 1 ? parts.at(-2)! : last;
}

/** One or two letters for a tile without a picture. */
export function abbreviate(name: string): string {
  const words = shorten(name).split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const [first = "?", second] = words.map((word) => [...word]);
  return ((first[0] ?? "?") + (second?.[0] ?? first[1] ?? "")).toUpperCase();
}

/** What a request calls a file: its short name, or the whole one where others have the same. */
export function nameFor(file: AddonFile, files: AddonFile[]): string {
  const short = shorten(file.name).toLowerCase();
  return files.filter((one) => shorten(one.name).toLowerCase() === short).length > 1 ? file.name : shorten(file.name);
}

/** The file that an item of a request names. */
export function findFile(files: AddonFile[], field: Field, name: string): AddonFile | undefined {
  const fitting = files.filter(({ kind }) => FIELDS[field].of.includes(kind));
  return fitting.find((file) => file.name === name) ?? fitting.find((file) => shorten(file.name).toLowerCase() === shorten(name).toLowerCase());
}

/** The files whose names hold every word of a text. */
export function search(files: AddonFile[], text: string): AddonFile[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return files.filter(({ name }) => words.every((word) => name.toLowerCase().includes(word)));
}

/** A word as a prompt holds it: brackets in it are no emphasis. */
export const spell = (word: string): string => word.replace(/[\\()[\]]/g, "\\$&");

export const holds = (prompt: string, word: string): boolean => prompt.toLowerCase().includes(spell(word).toLowerCase());

/** The prompt with a word more at its end. */
export function addWord(prompt: string, word: string): string {
  const before = prompt.replace(/[\s,]+$/, "");
  return before ? `${before}, ${spell(word)}` : spell(word);
}
