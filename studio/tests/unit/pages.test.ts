/** The pages as HTML: every citation and every link has its place, in the same bytes each time. */

import { expect, test } from "vitest";
import { anchorOf, renderInline, renderMarkdown } from "../../build/markdown.ts";
import { readContent } from "../../build/content.ts";
import { renderPages } from "../../build/pages.ts";
import { EXPLORABLES } from "../../src/explorables/registry.ts";
import { highlight } from "../../src/ui/highlight.ts";
import { GENERATED, readGolden } from "./golden.ts";

const content = readContent(new URL("content", GENERATED).pathname);
const assets = { scripts: ["assets/main.js"], styles: ["assets/main.css"], preloads: [], preloadsOf: () => [], modelBytes: 14e6 };
const pages = renderPages(content, assets);
const idsOf = (html: string) => [...html.matchAll(/ id="([^"]+)"/g)].map((match) => match[1]);
const ids = new Map([...pages].map(([file, html]) => [file, idsOf(html)]));

/** The file of a path in the repository, as ui/links.ts has it. */
function fileOf(path: string): string {
  const chapter = /^src\/fromnoise\/learn\/course\/(.+)\.md$/.exec(path)?.[1];
  const doc = /^docs\/(.+)\.md$/.exec(path)?.[1];
  return chapter ? `${chapter}.html` : doc === "glossary" ? "glossary.html" : doc ? `docs/${doc}.html` : "source.html";
}

test("every citation of the mentor opens a paragraph or a line", () => {
  const citations = readGolden<{ path: string; line: number; anchor: string }[]>("citations");
  expect(citations.length).toBeGreaterThan(500);
  const missing = citations.filter(({ path, line }) => {
    const file = fileOf(path);
    return file === "source.html" ? !content.sources.includes(path) : !ids.get(file)?.includes(`line-${line}`);
  });
  expect(missing).toEqual([]);
});

test("no id stands twice in a page", () => {
  for (const [file, all] of ids) expect([file, all.filter((id, i) => all.indexOf(id) < i)]).toEqual([file, []]);
});

test("every link inside the site leads to a page and an anchor of it", () => {
  for (const [file, html] of pages) {
    if (file === "404.html") continue; // stands in any folder
    for (const [, href] of html.matchAll(/ href="([^"]+)"/g)) {
      const url = new URL(href, `file:///${file}`);
      if (url.protocol !== "file:") continue;
      const target = url.pathname.slice(1);
      if (!target.endsWith(".html")) continue;
      if (target === "studio.html") continue; // the studio, an entry of vite.config.ts
      expect(pages.has(target), `${file} → ${href}`).toBe(true);
      const hash = decodeURIComponent(url.hash.slice(1));
      if (!hash) continue;
      if (target === "source.html" && hash !== "main") expect(content.sources).toContain(url.searchParams.get("path"));
      else expect(ids.get(target), `${file} → ${href}`).toContain(hash);
    }
  }
});

test("every explorable and exercise of the chapters has its place and its part", () => {
  const blocks = content.chapters.flatMap((chapter) => chapter.sections.flatMap((section) => section.blocks));
  const explorables = blocks.filter((block) => block.kind === "explorable");
  expect(explorables.map((block) => block.name).sort()).toEqual(Object.keys(EXPLORABLES).sort());
  for (const { texts } of explorables) {
    expect(texts!.choices[texts!.right]).toBeTruthy();
    for (const text of [texts!.title, texts!.question, texts!.run, texts!.compare, texts!.explain, texts!.check]) {
      expect(text).toBeTruthy();
    }
  }
  const all = [...ids.values()].flat();
  for (const block of explorables) expect(all).toContain(`explore-${block.name}`);
  for (const name of Object.keys(content.exercises)) expect(all).toContain(`exercise-${name}`);
});

test("formulas are KaTeX beside a line of code that can be opened", () => {
  for (const chapter of content.chapters) {
    const html = pages.get(`${chapter.path.split("/").at(-1)!.slice(0, -3)}.html`)!;
    const formulas = chapter.sections.flatMap((s) => s.blocks).filter((b) => b.kind === "formula");
    expect(html.match(/<figure class="formula"/g)?.length ?? 0).toBe(formulas.length);
    for (const { place } of formulas) expect(html).toContain(`source.html?path=${place!.path}#L${place!.line}`);
    expect(html).not.toContain("katex-error");
  }
});

test("a page asks for nothing outside its site", () => {
  for (const [file, html] of pages) {
    const policy = /Content-Security-Policy" content="([^"]+)"/.exec(html)![1];
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain(" 'unsafe-eval'");
    expect(html, file).not.toMatch(/<(script|link|img)[^>]+(src|href)="(https?:)?\/\//);
    expect(html, file).not.toMatch(/<script(?![^>]+src=)/);
    expect(html, file).not.toMatch(/ (src|href)="\/(?!\/)/); // from the root of the host
  }
});

test("the same content gives the same bytes", () => {
  expect([...renderPages(content, assets)]).toEqual([...pages]);
});

test("anchors of headings are those of the mentor's documents", () => {
  expect(anchorOf("`--trace`: what a run looks like, step by step")).toBe("--trace-what-a-run-looks-like-step-by-step");
  expect(anchorOf("Größe 2×")).toBe("größe-2");
});

test("Markdown: ids by line, links of the site, no foreign HTML", () => {
  const html = renderMarkdown("One <b>two</b>\nthree\n\n- [a](b.md)\n- [c](gone.md) ![d](e.png)\n\n| h |\n|---|\n| x |\n", {
    line: 10, taken: new Set(), resolveLink: (t) => (t === "b.md" ? "b.html" : null), resolvePicture: (t) => `pictures/${t}`,
  });
  for (const part of ['<p id="line-10">', 'id="line-13"', 'id="line-14"', 'id="line-18"', '<a href="b.html">a</a>', 'src="pictures/e.png"', "&lt;b&gt;"]) {
    expect(html).toContain(part);
  }
  expect(html).not.toContain("gone");
  expect(renderInline('say "so" in `"code"`')).toBe("say “so” in <code>&quot;code&quot;</code>");
});

test("highlighting loses no letter", () => {
  const code = 'def f(x: int = 0x1F) -> str:  # "no string"\n    """Two\n    lines"""\n    return f"{x:.1e}" + \'a\\\'b\' if x is not None else r"\\d"\n';
  const pieces = highlight(code, "python");
  expect(pieces.map((piece) => piece.text).join("")).toBe(code);
  const kindOf = (text: string) => pieces.find((piece) => piece.text.includes(text))?.kind;
  expect([kindOf("def"), kindOf("f"), kindOf("0x1F"), kindOf("# \"no"), kindOf("lines"), kindOf("return")]).toEqual(
    ["keyword", "keyword", "number", "comment", "string", "keyword"],
  );
  for (const path of content.sources.slice(0, 5)) expect(path).toMatch(/^src\/fromnoise\//);
});
