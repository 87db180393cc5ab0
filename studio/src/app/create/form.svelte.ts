/** The form of Create: the fields of a request, as the server names them; "" means: as the model
 * prefers, or at random for the seed. All of it stands in the address. */

import { Fault, type Picture } from "../api.ts";
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

/** A whole number as JSON can send it: what passes JavaScript's own goes as text. */
const integer = (text: string): number | string => (Number.isSafeInteger(Number(text)) ? Number(text) : text);

/** The kind of job that the form asks for, and its body. Throws for JSON that cannot be read, and a Fault
 * for fields that do not go together. */
export function makeRequest(): { kind: Kind; body: Record<string, unknown> } {
  const body: Record<string, unknown> = {};
  if (form.image && form.hires_scale) throw new Fault("A picture to start from is drawn in one pass.", "Leave out the picture, or the second pass.");
  const kind: Kind = form.image ? "edit" : form.hires_scale ? "hires" : "generate";
  for (const [name, text] of Object.entries(form)) {
    if (text === "" || name === "more" || name === "addons") continue;
    if (name.startsWith("hires_") && kind !== "hires") continue;
    if (name === "strength" && kind !== "edit") continue;
    body[name] = SEEDS.has(name) ? integer(text) : NUMBERS.has(name) ? Number(text) : text;
  }
  if (form.addons) body.addons = JSON.parse(form.addons);
  if (form.more) Object.assign(body, JSON.parse(form.more));
  return { kind, body };
}

/** Puts settings of a request into the form. What has no control of its own goes to `more`. */
export function fillForm(settings: Record<string, unknown>, keepModel = false): void {
  const values: Partial<Form> = {};
  const more: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(settings)) {
    if (value === null || value === undefined) continue;
    if (name === "addons") values.addons = JSON.stringify(value);
    else if (name === "image" || name === "mask") continue; // hashes of what was uploaded then
    else if (name in EMPTY && ["string", "number"].includes(typeof value)) values[name as keyof Form] = String(value);
    else more[name] = value;
  }
  if (Object.keys(more).length) values.more = JSON.stringify(more);
  Object.assign(form, EMPTY, { model: keepModel ? form.model : "" }, values);
}

/** The settings that draw one picture of a job again: its own seed, and itself alone. */
export function settingsOf(picture: Picture): Record<string, unknown> {
  const { settings, seed, index } = picture;
  const own: Record<string, unknown> = { ...settings, count: 1 };
  if (settings.variation_strength) own.variation_seed = Number(settings.variation_seed ?? 0) + index;
  else own.seed = seed;
  return own;
}
