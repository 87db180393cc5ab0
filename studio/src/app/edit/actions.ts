/** Variations of a picture, asked for at once from wherever it is shown. */

import type { Picture } from "../api.ts";
import { jobs } from "../jobs.svelte.ts";
import { go } from "../router.svelte.ts";
import { toasts } from "../toasts.svelte.ts";
import { askRedraw, askVariations, carryOver, refuseVariations } from "./bodies.ts";
import { openPicture, uploadSource } from "./source.ts";

const NEAR = 0.25; // of the way to another noise
const ALIKE = 0.5; // of the run, for a picture without a seed of its own
const FOUR = 4;

/** Four pictures near to one, at once. */
export async function vary(picture: Picture): Promise<void> {
  const source = await openPicture(picture.id);
  const { settings, model } = picture;
  const why = refuseVariations(source.job?.kind ?? null, settings);
  if (why) {
    const { words, more } = carryOver(settings, model);
    const { kind, body } = askRedraw({ ...words, count: FOUR }, more, await uploadSource(source), ALIKE);
    await jobs.submit(kind, body);
    toasts.tell(`${why} Four pictures are redrawn from its pixels.`);
  } else {
    const { kind, body } = askVariations(source.job!.kind, picture, NEAR, FOUR);
    await jobs.submit(kind, body);
    toasts.tell("Four variations are being drawn.", { label: "See them in Create", run: () => go("create") });
  }
}
