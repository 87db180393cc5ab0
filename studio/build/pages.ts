/** The pages of the site as HTML: readable as they are; main.ts mounts the live parts into them. */

import type { Block, Chapter, Content, Exercise } from "./content.ts";
import {
  escapeHtml as esc, jsonAttribute, renderCode, renderFormula, renderInline, renderMarkdown,
} from "./markdown.ts";

/** Addresses of what Vite built, from the folder of the site. */
export interface Assets {
  scripts: string[];
  styles: string[];
  preloads: string[]; // of every page
  preloadsOf: (names: string[]) => string[]; // the files of these modules and of what they import
  modelBytes: number; // of what drawing a picture loads
}

interface Page {
  file: string; // in the site
  title: string;
  description: string;
  main: string;
  current?: string; // the entry of the menu
  kind?: string; // a class of the body
  explorable?: string; // the first one: it is live soon, so its files load with the page
}

const SOURCES = "src/fromnoise/";
const MENU = [
  ["studio.html", "Studio"],
  ["index.html", "Chapters"],
  ["quiz.html", "Quiz"],
  ["glossary.html", "Glossary"],
  ["mentor.html", "Mentor"],
] as const;

/** Scripts, workers and requests come from the site itself. WebAssembly is allowed; KaTeX and the
 * editor write styles. The mentor may ask a server on the reader's own machine (off by default). */
const POLICY = [
  "default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data: blob:", "font-src 'self'",
  "connect-src 'self' http://localhost:* http://127.0.0.1:*", "worker-src 'self' blob:",
  "base-uri 'none'", "form-action 'none'",
].join("; ");

export const chapterFile = (chapter: Chapter): string => `${chapter.path.split("/").at(-1)!.replace(/\.md$/, "")}.html`;

export const documentFile = (name: string): string => (name === "glossary" ? "glossary.html" : `docs/${name}.html`);

const chapterName = (chapter: Chapter, chapters: Chapter[]): string =>
  chapter.number === chapters.length ? "Last page" : `Chapter ${chapter.number}`;

/** All pages: file → HTML. */
export function renderPages(content: Content, assets: Assets): Map<string, string> {
  const pages: Page[] = [
    renderHome(content, assets.modelBytes),
    ...content.chapters.map((chapter) => renderChapter(chapter, content)),
    ...Object.entries(content.documents).map(([name, text]) => renderDocument(name, text, content)),
    renderDocuments(content), renderQuiz(content), renderMentor(), renderSource(content),
  ];
  const site = new Map(pages.map((page) => [page.file, renderShell(page, assets)]));
  return site.set("404.html", renderMissing());
}

const MARK = `<svg viewBox="0 0 24 24" width="26" height="26" aria-hidden="true"><g fill="currentColor"><rect x="1" y="3" width="4" height="4" opacity=".35"/><rect x="5" y="11" width="4" height="4" opacity=".55"/><rect x="2" y="17" width="3" height="3" opacity=".3"/><rect x="8" y="5" width="3" height="3" opacity=".6"/><rect x="8" y="17" width="4" height="4" opacity=".5"/></g><circle cx="17" cy="12" r="5.2" fill="none" stroke="currentColor" stroke-width="2.4"/></svg>`;

function renderShell(page: Page, assets: Assets): string {
  const root = "../".repeat(page.file.split("/").length - 1);
  const home = page.file === "index.html";
  const early = page.explorable ? assets.preloadsOf(["Frame", "registry", "engine", "python", page.explorable]) : [];
  const preloads = [...new Set([...assets.preloads, ...early])];
  const menu = MENU.map(([file, name]) => {
    const current = page.current === file ? ` aria-current="${page.file === file ? "page" : "true"}"` : "";
    return `<li><a href="${root}${file}"${current}>${name}</a></li>`;
  });
  return `<!doctype html>
<html lang="en" data-root="${root}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${esc(page.title)}${home ? "" : " · fromnoise"}</title>
<meta name="description" content="${esc(page.description)}">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="${root}icon.svg" type="image/svg+xml">
<script src="${root}theme.js"></script>
${assets.styles.map((file) => `<link rel="stylesheet" href="${root}${file}">`).join("\n")}
${preloads.map((file) => `<link rel="modulepreload" href="${root}${file}">`).join("\n")}
${assets.scripts.map((file) => `<script type="module" src="${root}${file}"></script>`).join("\n")}
</head>
<body class="${page.kind ?? "plain"}">
<a class="skip" href="#main">Skip to the text</a>
<header class="top">
<a class="brand" href="${root}index.html">${MARK}<span>fromnoise</span></a>
<nav aria-label="Site"><ul>${menu.join("")}</ul></nav>
<button type="button" class="theme" data-theme-switch hidden></button>
</header>
<main id="main" tabindex="-1">
${page.main}</main>
${page.file === "mentor.html" ? "" : `<div data-island="mentor-panel"></div>
`}<footer class="bottom">
<p>fromnoise draws, trains and explains. All of it runs in this tab: no server, no account, and no request leaves this site.</p>
<p><a href="${root}docs/index.html">Documents</a> <a href="${root}docs/map.html">Source</a> <a href="${root}glossary.html">Glossary</a></p>
</footer>
</body>
</html>
`;
}

// ---------------------------------------------------------------------------------- chapters

/** A part that main.ts mounts; what stands inside is shown until then, and without JavaScript. */
function island(name: string, data: Record<string, unknown>, fallback: string, id = ""): string {
  const attributes = Object.entries(data).map(([key, value]) =>
    ` data-${key}="${typeof value === "string" ? esc(value) : jsonAttribute(value)}"`);
  return `<div class="island ${name}"${id ? ` id="${id}"` : ""} data-island="${name}"${attributes.join("")}>\n${fallback}</div>\n`;
}

function renderChapter(chapter: Chapter, content: Content): Page {
  const { chapters } = content;
  const at = chapters.indexOf(chapter);
  const taken = new Set(chapter.sections.map((section) => section.anchor));
  const sections = chapter.sections.map((section) => {
    const blocks = section.blocks.map((block) => renderBlock(block, chapter, content, taken));
    return `<section id="${section.anchor}" data-section><h2 id="line-${section.line}">${esc(section.title)} <a class="anchor" href="#${section.anchor}" aria-label="Link to “${esc(section.title)}”">#</a></h2>
${blocks.join("")}</section>
`;
  });
  const questions = content.quiz.filter((question) => question.chapter === chapter.id).length;
  const quiz = questions
    ? `<section class="closing"><h2 id="quiz">Questions</h2>\n${
      island("quiz", { chapter: chapter.id }, `<p>The quiz has ${questions} questions about this chapter. It needs JavaScript.</p>\n`)
    }</section>\n` : "";
  const contents = chapter.sections.map((section) =>
    `<li><a href="#${section.anchor}">${esc(section.title)}</a></li>`);
  const main = `<div class="chapter-page" data-chapter="${chapter.id}">
<nav class="contents" aria-label="This chapter"><details><summary>This chapter</summary><ol>
${contents.join("\n")}
</ol></details></nav>
<article>
<header class="opening">
<p class="kicker">${chapterName(chapter, chapters)} · ${chapter.minutes} minutes</p>
<h1>${esc(chapter.title)}</h1>
<div class="objectives"><p>You will learn to</p><ul>
${chapter.objectives.map((goal) => `<li>${renderInline(goal)}</li>`).join("\n")}
</ul></div>
</header>
${sections.join("")}${quiz}<nav class="around" aria-label="Chapters before and after">
${around(chapters[at - 1], "previous", chapters)}${around(chapters[at + 1], "next", chapters)}</nav>
</article>
</div>
`;
  return {
    file: chapterFile(chapter), title: `${chapter.number}. ${chapter.title}`, description: chapter.objectives.join(" "),
    main, current: "index.html", kind: "chapter",
    explorable: chapter.sections.flatMap((section) => section.blocks).find((block) => block.kind === "explorable")?.name,
  };
}

function around(chapter: Chapter | undefined, side: "previous" | "next", chapters: Chapter[]): string {
  if (!chapter) return side === "next" ? `<a class="next" href="quiz.html"><span>To the end</span>The quiz over all chapters</a>\n` : "<span></span>\n";
  return `<a class="${side}" rel="${side === "next" ? "next" : "prev"}" href="${chapterFile(chapter)}"><span>${side === "next" ? "Next" : "Before"}: ${chapterName(chapter, chapters).toLowerCase()}</span>${esc(chapter.title)}</a>\n`;
}

function renderBlock(block: Block, chapter: Chapter, content: Content, taken: Set<string>): string {
  const markdown = (line: number) =>
    renderMarkdown(block.text, { line, taken, ...linksFrom(chapter.path, content) });
  switch (block.kind) {
    case "text":
      return markdown(block.line);
    case "formula": {
      const place = block.place!;
      return `<figure class="formula" id="line-${block.line}">
<div class="tex" tabindex="0" role="group" aria-label="Formula">${renderFormula(block.text)}</div>
<figcaption>${sourceLink(place, "in the code")}<pre tabindex="0" role="group" aria-label="The line of code"><code>${stripPre(renderCode(place.text, "python"))}</code></pre></figcaption>
</figure>
`;
    }
    case "explorable": {
      // the mentor cites what it shows, by the line of `Compare:`
      const line = block.line + 1 + block.text.split("\n").findIndex((row) => row.startsWith("Compare: "));
      const live = island("explorable", { id: block.name!, texts: block.texts }, explorableFallback(block), `explore-${block.name}`);
      return `<div class="explorable-place" id="line-${line}">\n<span id="line-${block.line}"></span>${live}</div>\n`;
    }
    case "exercise":
      return `<span id="line-${block.line}"></span>${renderExercise(content.exercises[block.name!])}`;
    case "misconception":
      return `<aside class="misconception" id="line-${block.line}"><h3><span>A usual mistake</span>${esc(block.name!)}</h3>\n${markdown(block.line + 1)}</aside>\n`;
    case "takeaways":
      return `<div class="takeaways">\n${markdown(block.line + 1)}</div>\n`;
    default:
      return renderCode(block.text, block.kind);
  }
}

const stripPre = (html: string): string => html.replace(/^<pre[^>]*><code>/, "").replace(/<\/code><\/pre>\n$/, "");

const sourceLink = (place: { path: string; line: number }, before = ""): string =>
  `<a class="place" href="source.html?path=${place.path}#L${place.line}">${before ? `<span>${before}: </span>` : ""}${place.path.replace(SOURCES, "")}, line ${place.line}</a>`;

function explorableFallback(block: Block): string {
  const texts = block.texts!;
  return `<div class="card"><p class="kicker">Explorable</p><h3>${esc(texts.title)}</h3>
<p>${esc(texts.question)}</p><ul>${texts.choices.map((choice) => `<li>${esc(choice)}</li>`).join("")}</ul>
<noscript><p>The experiment itself needs JavaScript. What it shows: ${esc(texts.compare)} ${esc(texts.explain)}</p></noscript></div>
`;
}

function renderExercise(exercise: Exercise): string {
  const data = {
    ...exercise,
    task: renderMarkdown(exercise.task.trim(), { line: 0, taken: new Set(), resolveLink: (t) => t, resolvePicture: (t) => t })
      .replaceAll(/ id="line-\d+"/g, ""),
    formula: renderFormula(exercise.formula),
  };
  return island("exercise", { content: data }, `<div class="card"><p class="kicker">Exercise</p><h3>${esc(exercise.title)}</h3>
${data.task}<div class="tex" tabindex="0" role="group" aria-label="Formula">${data.formula}</div>
${renderCode(exercise.starter, "python")}<noscript><p>Checking your code here needs JavaScript. In a terminal: <code>fromnoise learn check ${exercise.name}.py</code></p></noscript></div>
`, `exercise-${exercise.name}`);
}

// --------------------------------------------------------------------------------- documents

/** How links in a file of the repository are written in the site. */
function linksFrom(path: string, content: Content) {
  const root = path.startsWith("docs/") && path !== "docs/glossary.md" ? "../" : "";
  return {
    resolveLink(target: string): string | null {
      if (/^(https?:|#)/.test(target)) return target;
      const [file, hash] = target.split("#");
      const full = new URL(file, `file:///${path}`).pathname.slice(1);
      const anchor = hash ? `#${hash}` : "";
      const chapter = content.chapters.find((c) => c.path === full);
      if (chapter) return root + chapterFile(chapter) + anchor;
      const name = /^docs\/([\w-]+)\.md$/.exec(full)?.[1];
      if (name && name in content.documents) return root + documentFile(name) + anchor;
      return content.sources.includes(full) ? `${root}source.html?path=${full}` : null;
    },
    resolvePicture: (target: string): string => `${root}pictures/${target}`,
  };
}

function renderDocument(name: string, text: string, content: Content): Page {
  const title = /^# (.+)$/m.exec(text)![1];
  const html = renderMarkdown(text, { line: 1, taken: new Set(), ...linksFrom(`docs/${name}.md`, content) });
  return {
    file: documentFile(name), title, description: `${title}, a document of fromnoise.`,
    main: `<article class="document ${name}">\n${html}</article>\n`,
    current: name === "glossary" ? "glossary.html" : undefined, kind: name === "map" ? "wide" : "plain",
  };
}

function renderDocuments(content: Content): Page {
  const rows = Object.entries(content.documents).map(([name, text]) => {
    const file = name === "glossary" ? "../glossary.html" : `${name}.html`;
    return `<li><a href="${file}">${esc(/^# (.+)$/m.exec(text)![1])}</a></li>`;
  });
  return {
    file: "docs/index.html", title: "Documents", description: "The documents of fromnoise.",
    main: `<article class="document"><h1>Documents</h1>\n<p>What the mentor knows beside the course, and the list of all source files.</p>\n<ul>\n${rows.join("\n")}\n</ul></article>\n`,
  };
}

function renderSource(content: Content): Page {
  const rows = content.sources.map((path) => `<li><a href="source.html?path=${path}">${path.replace(SOURCES, "")}</a></li>`);
  return {
    file: "source.html", title: "Source", description: "The source files of fromnoise, line by line.",
    main: island("source", {}, `<h1>Source</h1>
<noscript><p>Showing a file with its lines needs JavaScript. The files lie as text in the folder <code>sources</code> of this site.</p></noscript>
<ul class="files">\n${rows.join("\n")}\n</ul>\n`),
    kind: "wide",
  };
}

// --------------------------------------------------------------------------- the other pages

function renderQuiz(content: Content): Page {
  return {
    file: "quiz.html", title: "Quiz", description: "Questions over the whole course, with an explanation for every option.",
    main: `<article class="document"><header class="opening"><h1>Quiz</h1>
<p class="lead">${content.about.questions} questions over five chapters. Every option is explained, also the wrong ones. What you got wrong comes back sooner.</p></header>
${island("quiz", {}, "<noscript><p>The quiz needs JavaScript. In a terminal: <code>fromnoise learn quiz</code></p></noscript>\n")}</article>
`,
    current: "quiz.html",
  };
}

function renderMentor(): Page {
  return {
    file: "mentor.html", title: "Mentor", description: "Ask about the course. Every sentence of an answer says where it stands.",
    main: `<article class="document"><header class="opening"><h1>Mentor</h1>
<p class="lead">Ask about the course. Every sentence of an answer says where it stands, and a click opens that place. What is not in the course, the mentor does not invent.</p></header>
${island("mentor", {}, `<noscript><p>The mentor needs JavaScript. In a terminal: <code>fromnoise mentor "what does guidance do?"</code></p></noscript>\n`)}</article>
`,
    current: "mentor.html",
  };
}

function renderHome(content: Content, modelBytes: number): Page {
  const { chapters, about } = content;
  const minutes = chapters.reduce((sum, chapter) => sum + chapter.minutes, 0);
  const cards = chapters.map((chapter) => {
    const parts = chapter.sections.flatMap((section) => section.blocks);
    const titles = parts.filter((b) => b.kind === "explorable").map((b) =>
      `<a href="${chapterFile(chapter)}#explore-${b.name}">${esc(b.texts!.title)}</a>`);
    const last = chapter.number === chapters.length;
    return `<li class="chapter-card" data-progress="${chapter.id}" data-sections="${chapter.sections.length}">
<p class="kicker">${last ? "Last page" : `Chapter ${chapter.number}`} · ${chapter.minutes} minutes<span class="read"></span></p>
<h3><a href="${chapterFile(chapter)}">${esc(chapter.title)}</a></h3>
<ul>${chapter.objectives.map((goal) => `<li>${renderInline(goal)}</li>`).join("")}</ul>
${titles.length ? `<p class="play">Play: ${titles.join(", ")}</p>\n` : ""}</li>`;
  });
  const exercises = Object.values(content.exercises).map((exercise) => {
    const chapter = chapters.find((c) => c.id === exercise.chapter)!;
    return `<li><a href="${chapterFile(chapter)}#exercise-${exercise.name}"><code>${exercise.name}</code></a> ${esc(exercise.title)}</li>`;
  });
  const main = `<section class="welcome">
<div class="words">
<h1>How noise becomes a picture</h1>
<p class="lead">A whole text-to-image model lives in this page. Stop it halfway, take it apart, change its code, and train a small one of your own. Then you know how it works, because you did it.</p>
<p class="actions"><a class="button" href="${chapterFile(chapters[0])}">Begin with chapter one</a><span>${minutes} minutes of reading. You need Python and school maths.</span></p>
</div>
${island("hero", {}, `<div class="filmstrip" role="img" aria-label="Ten moments of one run, from pure noise on the left to a neon cat in space on the right"></div>\n`)}</section>

<section class="facts" aria-label="What is here">
<ul>
<li><b>${about.explorables}</b> explorables: you predict first, then the real model answers</li>
<li><b>${about.exercises}</b> exercises in code, checked in the page</li>
<li><b>${about.questions}</b> questions, and a reason for every option</li>
<li><b>0</b> requests to any other place: the model runs in your tab</li>
</ul>
</section>

<section aria-labelledby="chapters"><h2 id="chapters">Five chapters and a last page</h2>
<ol class="chapters">
${cards.join("\n")}
</ol></section>

<section class="more" aria-label="Exercises, quiz and mentor">
<div><h2 id="exercises">Exercises</h2><p>Write the few lines that everything rests on. A wrong formula gets a hint for its own mistake.</p><ul>
${exercises.join("\n")}
</ul></div>
<div><h2>Quiz</h2><p>At three levels. What you got wrong comes back sooner, in other words. Your progress stays in this browser.</p><p><a class="button plain" href="quiz.html">Take the quiz</a></p></div>
<div><h2>Mentor</h2><p>Answers in one to three sentences. Each says where it stands, and a click opens that paragraph or that line of code.</p><p><a class="button plain" href="mentor.html">Ask the mentor</a></p></div>
</section>

<section class="below" aria-labelledby="how"><h2 id="how">What runs here</h2>
<p>The pictures come from the model that fromnoise ships with: a text encoder, a U-Net and a decoder, trained from nothing by the project’s own recipe. ONNX Runtime computes them, with WebGPU or WebAssembly. The samplers are the project’s own Python files, unchanged, and you can open and edit them.</p>
<p>The first explorable that needs the model loads it once: ${(modelBytes / 1e6).toFixed(0)} MB. Later visits take it from your browser.</p>
</section>
`;
  return {
    file: "index.html", title: "fromnoise: how noise becomes a picture",
    description: "A course on text-to-image diffusion. The whole model runs in the browser tab.",
    main, current: "index.html", kind: "home",
  };
}

/** For a host that sends 404.html: it may stand in any folder, so it needs no other file. */
function renderMissing(): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>No such page · fromnoise</title>
<style>:root{color-scheme:light dark}body{font:1.125rem/1.6 Georgia,serif;max-width:34rem;margin:18vh auto;padding:0 1.25rem}</style></head>
<body><main><h1>No such page</h1><p>The address holds no page of this course. The <a href="index.html">first page</a> lists all chapters; from a folder it is <a href="../index.html">one level up</a>.</p></main></body></html>
`;
}
