/** What a place that the mentor cites is called. */

const CHAPTER = /^src\/fromnoise\/learn\/(?:course|quiz\/questions)\/(\d)-.*\.(md|toml)$/;
const DOCUMENT = /^docs\/(.+)\.md$/;

export function describeCitation(citation: { path: string; line: number; anchor: string }): string {
  const about = citation.anchor.replaceAll("-", " ");
  const [, number, kind] = CHAPTER.exec(citation.path) ?? [];
  if (kind === "md") return `Chapter ${number}: ${about}`;
  if (kind === "toml") return `Quiz of chapter ${number}, line ${citation.line}`;
  const document = DOCUMENT.exec(citation.path)?.[1];
  if (document === "glossary") return "Glossary";
  if (document) return `Document “${document}”: ${about}`;
  return `${citation.path.replace("src/fromnoise/", "")}, line ${citation.line}`;
}
