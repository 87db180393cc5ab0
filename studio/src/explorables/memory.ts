/** What the browser remembers of an explorable: the prediction, and how far the reader came. */

export interface Memory {
  choice: string; // the text of the choice, so that a reworded question begins anew
  locked: boolean;
  compared: boolean;
  done: boolean;
}

export const NOTHING: Memory = { choice: "", locked: false, compared: false, done: false };
const keyOf = (id: string) => `fromnoise.explorable.${id}`;

/** Reads it; what is damaged or belongs to other choices counts as nothing. */
export function recall(id: string, choices: readonly string[]): Memory {
  try {
    const read: unknown = JSON.parse(localStorage.getItem(keyOf(id)) ?? "null");
    if (typeof read !== "object" || read === null) return NOTHING;
    const memory = { ...NOTHING, ...read } as Memory;
    return choices.includes(memory.choice) ? memory : NOTHING;
  } catch {
    return NOTHING; // storage is closed in some private windows
  }
}

export function remember(id: string, memory: Memory): void {
  try {
    localStorage.setItem(keyOf(id), JSON.stringify(memory));
    dispatchEvent(new CustomEvent("fromnoise:progress"));
  } catch {
    // Storage is closed or full: the page works, and forgets.
  }
}
