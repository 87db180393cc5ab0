/** Pictures in small for the tiles in view, many with one request. While one request is under way no
 * other is sent, so pictures that are scrolled past meanwhile are never asked for. */

import { SvelteMap } from "svelte/reactivity";
import { ask, client, Fault } from "../api.ts";
import { toasts } from "../toasts.svelte.ts";

const TOGETHER = 60; // pictures of one request; the server takes 100
const KEPT = 1_500;
const RETRY = 1_000; // milliseconds until a server that is away or busy is asked again

class Thumbnails {
  readonly #known = new SvelteMap<string, string | null>(); // id → data URL; null: its file is gone
  #wanted: string[] = [];
  #asking = false;

  /** The address of a small picture, once it is known. */
  get(id: string): string | null | undefined {
    return this.#known.get(id);
  }

  /** Says which pictures are in view, the first ones first. */
  want(ids: string[]): void {
    this.#wanted = ids;
    void this.#ask();
  }

  async #ask(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    try {
      for (;;) {
        const missing = this.#wanted.filter((id) => !this.#known.has(id)).slice(0, TOGETHER);
        if (!missing.length) break;
        const query = { of: missing.join(",") };
        const { thumbnails } = await ask(client.GET("/api/thumbnails", { params: { query } }));
        for (const [id, url] of Object.entries(thumbnails)) this.#known.set(id, url);
        this.#forget();
      }
    } catch (error) {
      const isAway = error instanceof Fault && [0, 429, 503].includes(error.status);
      if (isAway) setTimeout(() => void this.#ask(), RETRY);
      else toasts.fail(error);
    } finally {
      this.#asking = false;
    }
  }

  /** Forgets the oldest ones that are not in view. */
  #forget(): void {
    const wanted = new Set(this.#wanted);
    for (const id of this.#known.keys()) {
      if (this.#known.size <= KEPT) return;
      if (!wanted.has(id)) this.#known.delete(id);
    }
  }
}

export const thumbnails = new Thumbnails();
