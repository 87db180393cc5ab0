/** How the model reads what is being written, asked for a little after each change. */

import { ask, client, hasServer, type Schemas } from "../api.ts";

export type Reading = Required<Schemas["WordsOut"]>;

export interface Segment {
  text: string;
  weight: number; // 1 for plain words
  unknown: boolean;
  border: boolean; // a new block of the text encoder begins here
}

const PAUSE = 250; // milliseconds

/** Cuts a text where its marks begin and end. The server counts code points. */
export function cutText(text: string, reading: Reading | null): Segment[] {
  if (!reading?.loaded) return [{ text, weight: 1, unknown: false, border: false }];
  const letters = Array.from(text);
  const { weights = [], unknown = [], borders = [] } = reading;
  const cuts = new Set([0, letters.length, ...borders, ...[...weights, ...unknown].flatMap(({ start, end }) => [start, end])]);
  const places = [...cuts].filter((place) => place <= letters.length).sort((a, b) => a - b);
  return places.slice(0, -1).map((start, i) => ({
    text: letters.slice(start, places[i + 1]).join(""),
    weight: weights.find((span) => span.start <= start && start < span.end)?.weight ?? 1,
    unknown: unknown.some((span) => span.start <= start && start < span.end),
    border: borders.includes(start),
  }));
}

export class Words {
  reading = $state.raw<Reading | null>(null);
  text = $state(""); // what the reading is of
  #timer: ReturnType<typeof setTimeout> | undefined;
  #latest = 0;

  read(text: string, model: string, negative: boolean): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#ask(text, model, negative), PAUSE);
  }

  async #ask(text: string, model: string, negative: boolean): Promise<void> {
    const turn = ++this.#latest;
    if (!(await hasServer())) return;
    try {
      const body = { text, negative, model: model || null, dialect: "a1111" };
      const reading = (await ask(client.POST("/api/words", { body }))) as Reading;
      if (turn === this.#latest) [this.reading, this.text] = [reading, text];
    } catch {
      // the count is a help: without it the text can still be sent
      if (turn === this.#latest) this.reading = null;
    }
  }
}
