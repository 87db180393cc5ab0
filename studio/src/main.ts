/** Mounts the live parts into the static pages when they come near the view. */

import "katex/dist/katex.min.css";
import "./style/tokens.css";
import "./style/base.css";
import "./style/pages.css";
import { mount, type Component } from "svelte";
import type { PythonWorker } from "./engine/python.ts";
import type { Engine } from "./engine/types.ts";
import { open } from "./explorables/open.ts";
import type { Place, Texts } from "./explorables/types.ts";
import { registerServiceWorker } from "./isolation.ts";
import { followReading } from "./reading.ts";
import { siteUrl } from "./ui/links.ts";

/** Makes a value at the first call, and gives the same one from then on. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let value: Promise<T> | undefined;
  return () => (value ??= make());
}

async function fetchJson<T>(file: string): Promise<T> {
  const response = await fetch(siteUrl(file)).catch(() => null);
  if (!response?.ok) throw new Error(`${file} did not load. Check the connection, then reload the page.`);
  return response.json();
}

const getPython = once<PythonWorker>(async () => (await import("./engine/python.ts")).createPython(siteUrl("")));
const getEngine = once<Engine>(async () => {
  const [{ createEngine }, python] = await Promise.all([import("./engine/engine.ts"), getPython()]);
  return createEngine(siteUrl(""), python);
});
const getPlaces = once(async () => {
  const rows = await fetchJson<Record<string, [number, string]>>("content/places.json");
  const place = ([reference, [line, text]]: [string, [number, string]]): [string, Place] =>
    [reference, { path: reference.split(":")[0], line, text }];
  return Object.fromEntries(Object.entries(rows).map(place));
});

type Mounted = { part: Component<any>; props: Record<string, unknown> }; // eslint-disable-line

/** What the address asks the mentor, and about what: the studio's "Why?" links here. */
function readQuestion(): { asked?: string; about?: { title: string; picture: string } } {
  const query = new URLSearchParams(location.search);
  const [asked, title, picture] = ["ask", "title", "picture"].map((name) => (query.get(name) ?? "").slice(0, 500));
  if (!asked) return {};
  const explorable = query.get("about") ?? "";
  if (/^[a-z-]{1,40}$/.test(explorable)) open.set({ explorable, title, values: {} });
  const src = /^[0-9a-f]{32}$/.test(picture) ? `/api/pictures/${picture}/thumbnail` : "";
  return { asked, about: title ? { title, picture: src } : undefined };
}

/** Name of an island → its part and what that is given. */
const ISLANDS: Record<string, (data: DOMStringMap) => Promise<Mounted>> = {
  async explorable({ id, texts }) {
    const [frame, { EXPLORABLES }, engine, python, places] = await Promise.all([
      import("./explorables/Frame.svelte"), import("./explorables/registry.ts"), getEngine(), getPython(), getPlaces(),
    ]);
    const entry = EXPLORABLES[id!];
    if (!entry) throw new Error(`This build has no explorable “${id}”. Build the site again with \`make site\`.`);
    return { part: frame.default, props: { id, texts: JSON.parse(texts!) as Texts, entry, engine, python, places } };
  },
  async exercise({ content }) {
    const [page, python] = await Promise.all([import("./pages/Exercise.svelte"), getPython()]);
    return { part: page.default, props: { exercise: JSON.parse(content!), python } };
  },
  async quiz({ chapter }) {
    const [page, data] = await Promise.all([
      import("./pages/Quiz.svelte"), fetchJson<Record<string, unknown>>("content/quiz.json"),
    ]);
    const opened = new URLSearchParams(location.search).get("question") ?? "";
    return { part: page.default, props: { ...data, chapter: chapter ?? "", opened } };
  },
  async mentor() {
    const [page, python] = await Promise.all([import("./pages/Mentor.svelte"), getPython()]);
    return { part: page.default, props: { form: "page", python, ...readQuestion() } };
  },
  async "mentor-panel"() {
    const [page, python] = await Promise.all([import("./pages/Mentor.svelte"), getPython()]);
    return { part: page.default, props: { form: "panel", python } };
  },
  source: async () => ({ part: (await import("./pages/SourceView.svelte")).default, props: {} }),
  hero: async () => ({ part: (await import("./pages/Hero.svelte")).default, props: {} }),
};

async function mountIsland(element: HTMLElement): Promise<void> {
  if (element.dataset.mounted) return;
  element.dataset.mounted = "yes";
  try {
    const { part, props } = await ISLANDS[element.dataset.island!](element.dataset);
    element.replaceChildren();
    mount(part, { target: element, props });
  } catch (error) {
    const message = document.createElement("p");
    message.className = "load-failure";
    message.setAttribute("role", "alert");
    message.textContent = `This part did not load. ${error instanceof Error ? error.message : error}`;
    element.append(message);
  }
}

function mountIslands() {
  const islands = [...document.querySelectorAll<HTMLElement>("[data-island]")];
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        watcher.unobserve(target);
        void mountIsland(target as HTMLElement);
      }
    },
    { rootMargin: "800px 0px" },
  );
  for (const island of islands) watcher.observe(island);
  const panel = document.querySelector<HTMLElement>("[data-island=mentor-panel]"); // floats over the page
  if (panel) setTimeout(() => void mountIsland(panel), 500);
  // A reader who moves by keyboard must find every control in its place.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Tab") for (const island of islands) void mountIsland(island);
  });
}

function offerTheme() {
  const button = document.querySelector<HTMLButtonElement>("[data-theme-switch]")!;
  const root = document.documentElement;
  const isDark = () =>
    root.dataset.theme === "dark" || (root.dataset.theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  const show = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.ariaLabel = isDark() ? "Light colours" : "Dark colours";
  };
  button.hidden = false;
  button.onclick = () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    show();
    try {
      localStorage.setItem("fromnoise.theme", root.dataset.theme);
    } catch {
      // Storage is closed: the choice holds for this page.
    }
  };
  show();
}

/** A citation may point into the middle of a paragraph: then its beginning is shown. */
function showCitedLine() {
  for (const shown of document.querySelectorAll(".cited")) shown.classList.remove("cited");
  const hash = location.hash.slice(1);
  const line = Number(/^line-(\d+)$/.exec(hash)?.[1]);
  let target = document.getElementById(hash);
  if (!target && line) {
    const numbers = [...document.querySelectorAll("[id^=line-]")].filter((e) => Number(e.id.slice(5)) <= line);
    target = (numbers.at(-1) as HTMLElement) ?? null;
    target?.scrollIntoView();
  }
  target?.classList.add("cited");
}

mountIslands();
offerTheme();
followReading();
showCitedLine();
addEventListener("hashchange", showCitedLine);
registerServiceWorker();
