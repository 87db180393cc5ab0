/** Markdown → HTML for the pages. Every paragraph, list entry and table row gets the id `line-<n>`, the
 * line of its file where it begins: the mentor's citations point there. */

import katex from "katex";
import MarkdownIt, { type Token } from "markdown-it";
import { highlight } from "../src/ui/highlight.ts";

export const escapeHtml = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

/** The value of an HTML attribute that holds JSON. */
export const jsonAttribute = (value: unknown): string => escapeHtml(JSON.stringify(value));

/** The anchor of a heading in a document, as mentor/corpus.py makes it. */
export const anchorOf = (title: string): string =>
  title.toLowerCase().replace(/[^\p{L}\p{N}_ -]/gu, "").replaceAll(" ", "-");

export function renderCode(code: string, info: string): string {
  const language = /^python/.test(info) ? "python" : /^(sh|bash)/.test(info) ? "sh" : "text";
  const pieces = highlight(code.replace(/\n$/, ""), language).map(({ kind, text }) =>
    kind === "plain" ? escapeHtml(text) : `<span class="code-${kind}">${escapeHtml(text)}</span>`,
  );
  const kind = info === "output" ? "output" : "code";
  const label = info === "output" ? "What it prints" : language === "python" ? "Python code" : "Code";
  return `<pre class="${kind}" tabindex="0" role="group" aria-label="${label}"><code>${pieces.join("")}</code></pre>\n`;
}

/** A formula; display: on a line of its own. Raises where KaTeX does not know it. */
export const renderFormula = (tex: string, display = true): string =>
  katex.renderToString(tex, { displayMode: display, throwOnError: true, strict: "error" });

type Environment = {
  line: number; // of the file, where the text begins
  taken: Set<string>; // ids of the page
  resolveLink: (target: string) => string | null;
  resolvePicture: (target: string) => string;
};

const markdown = new MarkdownIt({ html: false, linkify: false, typographer: true }) // “ ” for " "
  .disable("replacements");

const CITED = new Set(["paragraph_open", "list_item_open", "tr_open"]);

markdown.core.ruler.push("anchors", (state) => {
  const environment = state.env as unknown as Environment;
  state.tokens.forEach((token, i) => {
    if (token.type === "heading_open") {
      const text = plainText(state.tokens[i + 1]);
      setId(token, anchorOf(text), environment);
    }
    if (!CITED.has(token.type)) return;
    if (token.map) setId(token, `line-${environment.line + token.map[0]}`, environment);
  });
});

function setId(token: Token, id: string, environment: Environment) {
  if (environment.taken.has(id)) return;
  environment.taken.add(id);
  token.attrSet("id", id);
}

const plainText = (token: Token): string =>
  (token.children ?? []).map((child) => child.content).join("");

markdown.renderer.rules.fence = (tokens, i) => renderCode(tokens[i].content, tokens[i].info.trim());
markdown.renderer.rules.code_block = (tokens, i) => renderCode(tokens[i].content, "");
markdown.renderer.rules.table_open = () =>
  `<div class="table" tabindex="0" role="group" aria-label="Table"><table>\n`;
markdown.renderer.rules.table_close = () => "</table></div>\n";

/** Links of the repository become links of the site; what the site does not hold stays text. */
markdown.core.ruler.push("links", (state) => {
  const environment = state.env as unknown as Environment;
  for (const token of state.tokens) {
    const open: boolean[] = []; // of the links around, whether they remain
    token.children = (token.children ?? []).filter((child) => {
      if (child.type === "image") {
        child.attrSet("src", environment.resolvePicture(String(child.attrGet("src"))));
        child.attrSet("loading", "lazy");
      }
      if (child.type === "link_open") {
        const target = environment.resolveLink(String(child.attrGet("href")));
        open.push(target !== null);
        if (target !== null) child.attrSet("href", target);
        return target !== null;
      }
      return child.type === "link_close" ? open.pop() : true;
    });
  }
});

export function renderMarkdown(text: string, environment: Environment): string {
  return markdown.render(text, environment);
}

/** One line of Markdown without a paragraph around it. */
export function renderInline(text: string): string {
  return markdown.renderInline(text, {
    line: 0, taken: new Set(), resolveLink: (t: string) => t, resolvePicture: (t: string) => t,
  } satisfies Environment);
}
