/** Messages in the corner: what happened, what went wrong, and what to do about it. */

import { capitalise, Fault } from "./api.ts";

export interface Toast {
  id: number;
  kind: "note" | "warning" | "error";
  text: string;
  remedy: string;
  action?: { label: string; run: () => void };
}

const SECONDS = { note: 6, warning: 12, error: 0 }; // an error stays until it is closed
const MOST = 5;
let next = 1;
let list = $state<Toast[]>([]);

function add(kind: Toast["kind"], text: string, remedy = "", action?: Toast["action"], seconds = SECONDS[kind]): number {
  const same = list.find((toast) => toast.text === text && toast.kind === kind);
  if (same && !action) return same.id;
  const toast = { id: next++, kind, text, remedy: capitalise(remedy), action };
  list = [...list, toast].slice(-MOST);
  if (seconds) setTimeout(() => toasts.close(toast.id), seconds * 1000);
  return toast.id;
}

export const toasts = {
  get list(): Toast[] {
    return list;
  },
  /** Something was done; perhaps it can be undone. */
  tell: (text: string, action?: Toast["action"], seconds?: number) => add("note", text, "", action, seconds),
  warn: (text: string, remedy = "") => add("warning", capitalise(text), remedy),
  fail(error: unknown): number {
    if (error instanceof DOMException && error.name === "AbortError") return 0;
    if (error instanceof Fault) return add("error", error.message, error.remedy);
    return add("error", error instanceof Error ? error.message : String(error));
  },
  close(id: number): void {
    list = list.filter((toast) => toast.id !== id);
  },
};
