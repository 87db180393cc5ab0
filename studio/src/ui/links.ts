/** Addresses of places in the site, relative to the page that is open. */

import type { Citation } from "../engine/types.ts";
import type { Place } from "../explorables/types.ts";

/** The way from this page to the folder of the site: "" or "../". */
export const siteRoot = (): string => document.documentElement.dataset.root ?? "";

/** A file of the site, "generated/…" or "quiz.html", as an address for this page. */
export const siteUrl = (path: string): string => new URL(siteRoot() + path, document.baseURI).href;

export const sourceUrl = (path: string, line: number): string =>
  siteUrl(`source.html?path=${encodeURIComponent(path).replaceAll("%2F", "/")}#L${line}`);

export const placeUrl = (place: Place): string => sourceUrl(place.path, place.line);

const CHAPTER = /^src\/fromnoise\/learn\/course\/(.+)\.md$/;
const DOCUMENT = /^docs\/(.+)\.md$/;

/** Where the page shows what the mentor cites: a paragraph (by line or anchor), a question of the quiz
 * or a line of code. */
export function citationUrl(citation: Citation): string {
  if (citation.question) return siteUrl(`quiz.html?question=${encodeURIComponent(citation.question)}`);
  const chapter = CHAPTER.exec(citation.path)?.[1];
  const doc = DOCUMENT.exec(citation.path)?.[1];
  const hash = citation.line ? `#line-${citation.line}` : `#${citation.anchor}`;
  if (chapter) return siteUrl(`${chapter}.html${hash}`);
  if (doc === "glossary") return siteUrl(`glossary.html${hash}`);
  if (doc) return siteUrl(`docs/${doc}.html${hash}`);
  return sourceUrl(citation.path, citation.line);
}
