/** What a place that the mentor cites is called. */

import type { Citation } from "../engine/types.ts";

const CHAPTER = /^src\/fromnoise\/learn\/(?:course|quiz\/questions)\/(\d)-/;
const DOCUMENT = /^docs\/(.+)\.md$/;

export function describeCitation(citation: Citation): string {
  const about = citation.anchor.replaceAll("-", " ");
  const number = CHAPTER.exec(citation.path)?.[1];
  if (number && citation.question) return `A question of the quiz, chapter ${number}`;
  if (number) return `Chapter ${number}: ${about}`;
  const document = DOCUMENT.exec(citation.path)?.[1];
  if (document === "glossary") return "Glossary";
  if (document) return `Document “${document}”: ${about}`;
  return `${citation.path.replace("src/fromnoise/", "")}, line ${citation.line}`;
}
