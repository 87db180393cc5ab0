import type { Entry } from "./types.ts";

/** What a picture from words needs. */
const SAMPLING = ["unet", "text", "decoder", "python"] as const;

/** id of the chapters → the file that is it. */
export const EXPLORABLES: Record<string, Entry> = {
  destroy: { load: () => import("./destroy.svelte"), needsModel: false },
  "one-look": { load: () => import("./one-look.svelte"), needsModel: true, parts: SAMPLING },
  reconstruct: { load: () => import("./reconstruct.svelte"), needsModel: true, parts: SAMPLING },
  "exact-field": { load: () => import("./exact-field.svelte"), needsModel: false },
  "latent-lab": {
    load: () => import("./latent-lab.svelte"), needsModel: true, parts: ["encoder", "decoder"],
  },
  "clip-matrix": {
    load: () => import("./clip-matrix.svelte"), needsModel: true, parts: ["text", "tower"],
  },
  "word-lens": { load: () => import("./word-lens.svelte"), needsModel: true, parts: SAMPLING },
  "guidance-plane": { load: () => import("./guidance-plane.svelte"), needsModel: true, parts: SAMPLING },
  "solver-race": { load: () => import("./solver-race.svelte"), needsModel: false, parts: ["python"] },
  schedules: {
    load: () => import("./schedules.svelte"), needsModel: true, parts: SAMPLING,
  },
  "prompt-bench": { load: () => import("./prompt-bench.svelte"), needsModel: true, parts: SAMPLING },
  "write-a-sampler": {
    load: () => import("./write-a-sampler.svelte"), needsModel: false, parts: ["python"],
  },
  "train-on-points": { load: () => import("./train-on-points.svelte"), needsModel: false },
};
