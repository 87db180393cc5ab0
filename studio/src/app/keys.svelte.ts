/** Keyboard shortcuts: single keys that act wherever no text is being typed. */

import { untrack } from "svelte";

export interface Shortcut {
  key: string; // as in KeyboardEvent.key; "Mod+Enter" for Ctrl or ⌘
  label: string;
  group?: string;
  run: (event: KeyboardEvent) => void;
}

let list = $state.raw<Shortcut[]>([]);

export const keys = {
  get list(): Shortcut[] {
    return list;
  },
  /** Adds shortcuts; the way to take them away. A later one wins over an earlier one. */
  add(...added: Shortcut[]): () => void {
    list = [...added, ...untrack(() => list)]; // an effect that adds keys does not depend on the others
    return () => (list = untrack(() => list).filter((shortcut) => !added.includes(shortcut)));
  },
};

const TYPED = new Set(["text", "search", "number", "password", "email", "url"]);

function isTyping(target: EventTarget | null): boolean {
  if (target instanceof HTMLInputElement) return TYPED.has(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || (target as HTMLElement)?.isContentEditable;
}

export function nameKey(event: KeyboardEvent): string {
  return (event.ctrlKey || event.metaKey ? "Mod+" : "") + event.key;
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.isComposing) return;
  const name = nameKey(event);
  if (isTyping(event.target) && !name.startsWith("Mod+") && name !== "Escape") return;
  if (name.startsWith("Mod+") && name.length === 5 && isTyping(event.target)) return; // copy, paste, undo
  const modal = document.querySelector("dialog[open]");
  const found = list.find((shortcut) => shortcut.key === name && (!modal || shortcut.group === modal.getAttribute("data-keys")));
  if (!found) return;
  event.preventDefault();
  found.run(event);
});
