/** "Why?": a question for the mentor, with what the person looks at. */

import { open } from "../../explorables/open.ts";
import type { PythonWorker } from "../../engine/python.ts";

/** Panel → the explorable of the course that lets one try the same. */
const COURSE: Record<string, string> = {
  sigmas: "schedules", norms: "destroy", guidance: "guidance-plane", latents: "latent-lab",
  frame: "one-look", words: "word-lens", map: "word-lens", difference: "word-lens",
};

let asked = $state.raw<{ question: string; number: number }>();
let python: Promise<PythonWorker> | undefined;

export const why = {
  get asked() {
    return asked;
  },
  ask(question: string, panel: string, title: string): void {
    open.set({ explorable: COURSE[panel] ?? "", title, values: {} });
    asked = { question, number: (asked?.number ?? 0) + 1 };
  },
  close(): void {
    asked = undefined;
    open.set(null);
  },
  /** The tab's Python, started once. */
  python(): Promise<PythonWorker> {
    return (python ??= import("../../engine/python.ts").then(({ createPython }) => createPython(new URL(".", location.href).href)));
  },
};
