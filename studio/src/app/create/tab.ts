/** What the model in the tab has to choose from, where no server says it. */

import { readManifest } from "../../engine/files.ts";
import type { Manifest } from "../../engine/manifest.ts";
import { SPACINGS } from "../../lab/spacing.ts";
import { siteUrl } from "../../ui/links.ts";
import type { Form } from "./form.svelte.ts";

const USED = new Set(["prompt", "negative_prompt", "seed", "steps", "cfg", "sampler", "spacing", "count"]);

export async function readChoices() {
  const [{ samplers, spacings }, { model }] = await Promise.all([
    import("../../../generated/content/choices.json"), readManifest<Manifest>(siteUrl("model/manifest.json")),
  ]);
  const [, height, width] = model.latents.map((side) => side * model.factor);
  return {
    samplers, spacings: spacings.filter(({ name }) => name in SPACINGS), defaults: { ...model.defaults, width, height },
  };
}

/** The filled fields of a form that the model in the tab cannot use, in words. */
export const findUnused = (form: Form): string[] =>
  Object.entries(form).filter(([name, value]) => value && !USED.has(name)).map(([name]) => name.replaceAll("_", " "));
