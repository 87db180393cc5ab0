/** What write_content.py wrote, with its types. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Place, Texts } from "../src/explorables/types.ts";
import type { Question } from "../src/lab/review.ts";

export interface Block {
  kind: "text" | "formula" | "python" | "output" | "sh" | "explorable" | "exercise" | "misconception" | "takeaways";
  text: string;
  line: number;
  name?: string;
  place?: Place; // of a formula
  texts?: Texts; // of an explorable
}

export interface Section {
  title: string;
  anchor: string;
  line: number;
  blocks: Block[];
}

export interface Chapter {
  number: number;
  id: string;
  title: string;
  minutes: number;
  objectives: string[];
  sections: Section[];
  path: string;
}

export interface Exercise {
  name: string;
  title: string;
  chapter: string;
  task: string;
  formula: string;
  place: Place;
  starter: string;
  hints: string[];
  solution: string;
}

export interface Content {
  chapters: Chapter[];
  exercises: Record<string, Exercise>;
  quiz: Question[];
  documents: Record<string, string>;
  sources: string[];
  about: { version: string; explorables: number; exercises: number; questions: number };
}

export function readContent(folder: string): Content {
  if (!existsSync(join(folder, "about.json"))) {
    throw new Error(`${folder} holds no content: run \`make site\`, or python studio/build/write_content.py`);
  }
  const read = (name: string) => JSON.parse(readFileSync(join(folder, name), "utf8"));
  return {
    chapters: read("course.json"),
    exercises: read("exercises.json"),
    quiz: read("quiz.json"),
    documents: read("documents.json"),
    sources: read("sources.json"),
    about: read("about.json"),
  };
}
