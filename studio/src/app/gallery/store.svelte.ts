/** What the gallery shows: all pictures of a search in short, and details of those that are opened. */

import { SvelteMap, SvelteSet } from "svelte/reactivity";
import { ask, client, readPicture, type Picture, type Schemas } from "../api.ts";
import { toasts } from "../toasts.svelte.ts";

export type Short = Schemas["ShortPicture"];

export interface Search {
  words: string;
  favourite: boolean;
  board: string;
  deleted: boolean;
}

class GalleryStore {
  list = $state.raw<Short[]>([]);
  boards = $state.raw<Schemas["BoardOut"][]>([]);
  more = $state(false); // there are older ones than the list holds
  loading = $state(true);
  readonly details = new SvelteMap<string, Picture>();
  readonly selected = new SvelteSet<string>();
  #turn = 0;

  async find(search: Search): Promise<void> {
    const turn = ++this.#turn;
    this.loading = true;
    try {
      const query = {
        search: search.words, deleted: search.deleted,
        ...(search.favourite && { favourite: true }), ...(search.board && { board: search.board }),
      };
      const found = await ask(client.GET("/api/gallery", { params: { query } }));
      if (turn !== this.#turn) return;
      [this.list, this.more] = [found.pictures, found.more];
      this.selected.clear();
    } catch (error) {
      toasts.fail(error);
    } finally {
      if (turn === this.#turn) this.loading = false;
    }
  }

  async readBoards(): Promise<void> {
    try {
      this.boards = await ask(client.GET("/api/boards"));
    } catch (error) {
      toasts.fail(error);
    }
  }

  async open(id: string): Promise<void> {
    const at = this.list.findIndex((one) => one.id === id);
    const wanted = this.list.slice(Math.max(0, at - 1), at + 2).filter((one) => !this.details.has(one.id));
    try {
      for (const one of wanted) {
        this.details.set(one.id, await readPicture(one.id));
      }
    } catch (error) {
      toasts.fail(error);
    }
  }

  remove(ids: string[]): void {
    const gone = new Set(ids);
    this.list = this.list.filter(({ id }) => !gone.has(id));
    for (const id of ids) this.selected.delete(id);
  }

  change(picture: Picture): void {
    this.details.set(picture.id, picture);
    this.list = this.list.map((one) => (one.id === picture.id ? { ...one, favourite: picture.favourite } : one));
  }
}

export const gallery = new GalleryStore();
