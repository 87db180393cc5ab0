import type { Entry } from "./types.ts";

/** id of the chapters → the file that is it. */
export const EXPLORABLES: Record<string, Entry> = {
  "one-look": { load: () => import("./one-look.svelte"), needsModel: true },
  reconstruct: { load: () => import("./reconstruct.svelte"), needsModel: true },
  "latent-lab": {
    load: () => import("./latent-lab.svelte"), needsModel: true, parts: ["encoder", "decoder"],
  },
  "clip-matrix": {
    load: () => import("./clip-matrix.svelte"), needsModel: true, parts: ["text", "tower"],
  },
  "word-lens": { load: () => import("./word-lens.svelte"), needsModel: true },
  "guidance-plane": { load: () => import("./guidance-plane.svelte"), needsModel: true },
  "prompt-bench": { load: () => import("./prompt-bench.svelte"), needsModel: true },
};
