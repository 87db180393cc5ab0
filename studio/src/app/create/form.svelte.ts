/** The form of Create: the fields of a request, as the server names them; "" means: as the model
 * prefers, or at random for the seed. All of it stands in the address. */

import { Fault, type Picture, type Schemas } from "../api.ts";
import { hasHash, partAddons, tellWords, writeSeed } from "../edit/bodies.ts";
import { itemsOf, shorten, type Item } from "./addons.ts";
import type { Kind } from "../jobs.svelte.ts";
import { recall, remember } from "../store.ts";

export interface Form {
  prompt: string;
  negative_prompt: string;
  model: string;
  preset: string;
  sampler: string;
  spacing: string;
  steps: string;
  cfg: string;
  width: string;
  height: string;
  seed: string;
  variation_seed: string;
  variation_strength: string;
  count: string;
  tiling: string;
  hires_scale: string; // "": one pass
  hires_strength: string;
  image: string; // the id of an upload; "": from noise alone
  strength: string;
  addons: string; // JSON, as the request has it
  more: string; // JSON: fields that the form shows in no control of their own
}

export const EMPTY: Form = {
  prompt: "", negative_prompt: "", model: "", preset: "", sampler: "", spacing: "", steps: "", cfg: "",
  width: "", height: "", seed: "", variation_seed: "", variation_strength: "", count: "4", tiling: "",
  hires_scale: "", hires_strength: "", image: "", strength: "", addons: "", more: "",
};
const NUMBERS = new Set<string>([
  "steps", "cfg", "width", "height", "variation_strength", "count", "hires_scale", "hires_strength", "strength",
]);
const SEEDS = new Set<string>(["seed", "variation_seed"]);
const DRAFT = "studio.form";

export const form = $state<Form>({ ...EMPTY, ...keepKnown(recall<Record<string, unknown>>(DRAFT, {})) });

/** Only fields of the form, as texts. */
function keepKnown(values: Record<string, unknown>): Partial<Form> {
  return Object.fromEntries(
    Object.keys(EMPTY).filter((name) => typeof values[name] === "string").map((name) => [name, values[name]]),
  ) as Partial<Form>;
}

export function writeQuery(): URLSearchParams {
  const changed = Object.entries(form).filter(([name, value]) => value !== EMPTY[name as keyof Form]);
  return new URLSearchParams(changed);
}

/** Fills the form from an address; fields that it does not name are empty. */
export function readQuery(query: URLSearchParams): void {
  Object.assign(form, EMPTY, keepKnown(Object.fromEntries(query)));
}

export function keepDraft(): void {
  remember(DRAFT, $state.snapshot(form));
}

/** A number as JSON can send it; what is none goes as it is written, and the server says so. */
const number = (text: string): number | string => (Number.isFinite(Number(text)) ? Number(text) : text);

/** An object written as JSON; null for anything else. */
export function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

function readField(name: "addons" | "more"): Record<string, unknown> {
  const value = form[name] ? parseObject(form[name]) : {};
  if (!value) throw new Fault(`The address has "${name}" that cannot be read.`, `Take "${name}=…" out of it, or press Clear.`);
  return value;
}

/** An add-on that lacks its picture. A ControlNet looks at the picture to start from, where there is one. */
function findBlind(addons: Record<string, unknown>, kind: Kind): Item | undefined {
  const control = kind !== "edit" && itemsOf(addons, "controls").find(({ image }) => !image);
  return control || itemsOf(addons, "ip_adapters").find(({ pictures }) => !pictures?.length);
}

const isHires = (name: string): boolean => name.startsWith("hires_");

/** The kind of job that the form asks for, and its body. Throws a Fault for JSON that cannot be read,
 * and for fields that do not go together. */
export function makeRequest(): { kind: Kind; body: Record<string, unknown> } {
  const [addons, more] = [readField("addons"), readField("more")];
  if (form.image && form.hires_scale) throw new Fault("A picture to start from is drawn in one pass.", "Leave out the picture, or the second pass.");
  const body: Record<string, unknown> = {};
  const kind: Kind = form.image ? "edit" : form.hires_scale || Object.keys(more).some(isHires) ? "hires" : "generate";
  for (const [name, text] of Object.entries(form)) {
    if (!text.trim() || name === "more" || name === "addons") continue;
    if (isHires(name) && kind !== "hires") continue;
    if (name === "strength" && kind !== "edit") continue;
    body[name] = SEEDS.has(name) ? writeSeed(text) : NUMBERS.has(name) ? number(text) : text;
  }
  const blind = findBlind(addons, kind);
  if (blind) {
    throw new Fault(`${shorten(blind.name)} looks at a picture, and has none.`, "Choose its picture under “LoRA and other add-ons”, or remove it.");
  }
  if (form.addons) body.addons = addons;
  return { kind, body: { ...body, ...more } };
}

/** Lets the next picture start from an upload: in one pass. */
export function startFromUpload(id: string): void {
  const more = Object.entries(parseObject(form.more) ?? {}).filter(([name]) => !isHires(name));
  Object.assign(form, { image: id, hires_scale: "", hires_strength: "", more: more.length ? JSON.stringify(Object.fromEntries(more)) : "" });
}

type Kinds = "EditBody" | "UpscaleBody" | "BlendBody" | "FilmBody" | "GridBody";
type Foreign = Exclude<{ [K in Kinds]: keyof Schemas[K] }[Kinds], keyof Schemas["HiresBody"]>;
const [ANOTHER, FILM, GRID] = ["it is of a picture that was made from another one", "it is of a film", "it is of a grid"];
/** Fields of other kinds of jobs, and why Create does not draw with them. */
const FOREIGN: Record<Foreign, string> = {
  image: ANOTHER, mask: ANOTHER, strength: ANOTHER, content: ANOTHER, mask_blur: ANOTHER, only_masked: ANOTHER, padding: ANOTHER,
  resize: ANOTHER, image_cfg: ANOTHER, depth_map: ANOTHER, extend_left: ANOTHER, extend_right: ANOTHER, extend_top: ANOTHER,
  extend_bottom: ANOTHER, scale: ANOTHER, upscaler: ANOTHER, first: ANOTHER, second: ANOTHER, weight: ANOTHER, clip_scale: ANOTHER,
  prompts: FILM, frames: FILM, key_seeds: FILM, easing: FILM, loop: FILM, blend: FILM, x: GRID, y: GRID, z: GRID,
};

/** Puts settings of a request into the form; what has no control of its own goes to `more`. Returns what
 * Create does not draw with: its name → why. */
export function fillForm(settings: Record<string, unknown>, keepModel = false): Record<string, string> {
  const values: Partial<Form> = {};
  const more: Record<string, unknown> = {};
  const unused: Record<string, string> = {};
  for (const [name, value] of Object.entries(settings)) {
    if (value === null || value === undefined) continue;
    if (name === "addons") {
      const { kept, lost } = partAddons(value as Record<string, unknown>);
      if (Object.keys(kept).length) values.addons = JSON.stringify(kept);
      for (const addon of lost) unused[addon] = "it looks at a picture of its own";
    } else if (name in FOREIGN) unused[name] = FOREIGN[name as Foreign];
    else if (typeof value === "object" && hasHash(value)) unused[name] = "it holds a picture of its own";
    else if (name in EMPTY && ["string", "number"].includes(typeof value)) values[name as keyof Form] = String(value);
    else more[name] = value;
  }
  if (Object.keys(more).length) values.more = JSON.stringify(more);
  Object.assign(form, EMPTY, { model: keepModel ? form.model : "", prompt: tellWords(settings) }, values);
  return unused;
}

/** The settings that draw one picture of a job again: its own seed, and itself alone. */
export function settingsOf({ settings, seed, index }: Picture): Record<string, unknown> {
  const own: Record<string, unknown> = { ...settings, seed, count: 1 };
  if (settings.variation_strength) own.variation_seed = String(BigInt(String(settings.variation_seed)) + BigInt(index));
  return own;
}
