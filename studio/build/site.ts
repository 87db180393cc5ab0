/** The Vite plugin that makes the site: its HTML pages, and the folders that pages load from. */

import { cpSync, createReadStream, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, extname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Plugin, ResolvedConfig, Rolldown } from "vite";
import { readContent, type Content } from "./content.ts";
import { chapterFile, renderPages } from "./pages.ts";

const STUDIO = dirname(dirname(fileURLToPath(import.meta.url)));
const GENERATED = join(STUDIO, "generated");
const LARGEST_SITE = 45_000_000; // bytes

/** Folder of the site → the folder that it is a copy of, and what makes that. */
const COPIES: Record<string, { from: string; made: string }> = {
  model: { from: "model", made: "python studio/build/export_model.py" },
  python: { from: "python", made: "python studio/build/write_python.py" },
  runtimes: { from: "runtimes", made: "python studio/build/write_runtimes.py" },
  sources: { from: "content/sources", made: "python studio/build/write_content.py" },
  pictures: { from: "content/pictures", made: "python studio/build/write_content.py" },
};

/** What pages load as data. */
function listData(content: Content): Map<string, string> {
  const chapters = content.chapters.map((chapter) => ({
    id: chapter.id, number: chapter.number, title: chapter.title, url: chapterFile(chapter),
    sections: Object.fromEntries(chapter.sections.map(({ anchor, title }) => [anchor, title])),
  }));
  return new Map([
    ["content/quiz.json", JSON.stringify({ questions: content.quiz, chapters })],
    ["content/places.json", readFileSync(join(GENERATED, "content/places.json"), "utf8")],
    ["content/sources.json", JSON.stringify(content.sources)],
  ]);
}

/** The bytes that drawing a first picture loads: weights and graphs of three parts. */
function countModelBytes(): number {
  const folder = join(GENERATED, "model");
  if (!existsSync(folder)) return 0;
  return readdirSync(folder)
    .filter((name) => /^(unet|text|decoder)\.(pack|onnx\.packed)$/.test(name))
    .reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}

export function site(): Plugin {
  let config: ResolvedConfig;
  return {
    name: "fromnoise-site",
    configResolved(resolved) {
      config = resolved;
    },

    // after Vite has taken away chunks that held styles alone
    generateBundle: { order: "post", handler(_, bundle) {
      const content = readContent(join(GENERATED, "content"));
      const chunks = Object.values(bundle).filter((file) => file.type === "chunk");
      const main = chunks.find((chunk) => chunk.isEntry && chunk.name === "main")!;
      const styles = [...(main as Rolldown.OutputChunk).viteMetadata!.importedCss];
      /** A chunk and all that it imports at once. */
      const withImports = (fileName: string): string[] => {
        const chunk = bundle[fileName] as Rolldown.OutputChunk | undefined;
        return chunk ? [fileName, ...chunk.imports.flatMap(withImports)] : [];
      };
      const preloadsOf = (names: string[]) =>
        [...new Set(chunks.filter((chunk) => names.includes(chunk.name)).flatMap((chunk) => withImports(chunk.fileName)))].sort();
      const pages = renderPages(content, {
        scripts: [main.fileName], styles, modelBytes: countModelBytes(), preloads: preloadsOf(["main"]).filter((file) => file !== main.fileName), preloadsOf,
      });
      for (const [fileName, source] of [...pages, ...listData(content)]) {
        this.emitFile({ type: "asset", fileName, source });
      }
    } },

    writeBundle({ dir }) {
      for (const [name, { from, made }] of Object.entries(COPIES)) {
        const folder = join(GENERATED, from);
        if (!existsSync(folder)) this.error(`studio/generated/${from} is missing: run \`${made}\`, or \`make site\` for all`);
        cpSync(folder, join(dir!, name), { recursive: true });
      }
      const sizes = new Map<string, number>();
      for (const file of listFiles(dir!)) {
        const top = file.includes("/") ? file.split("/")[0] + "/" : "pages";
        sizes.set(top, (sizes.get(top) ?? 0) + statSync(join(dir!, file)).size);
      }
      const total = [...sizes.values()].reduce((a, b) => a + b, 0);
      const rows = [...sizes].sort().map(([name, bytes]) => `  ${name.padEnd(12)} ${(bytes / 1e6).toFixed(2).padStart(6)} MB`);
      config.logger.info([...rows, `  ${"the site".padEnd(12)} ${(total / 1e6).toFixed(2).padStart(6)} MB`].join("\n"));
      if (total > LARGEST_SITE) this.error(`the site is larger than ${LARGEST_SITE / 1e6} MB`);
    },

    /** The same pages and folders while developing, made anew at every visit. */
    configureServer(server) {
      server.middlewares.use((request, response, next) => {
        const path = new URL(request.url!, "http://localhost").pathname.slice(1) || "index.html";
        const content = readContent(join(GENERATED, "content"));
        const assets = {
          scripts: ["@vite/client", "src/main.ts"], styles: [], preloads: [], preloadsOf: () => [],
          modelBytes: countModelBytes(),
        };
        const page = renderPages(content, assets).get(path) ?? listData(content).get(path);
        const copy = COPIES[path.split("/")[0]];
        const file = copy && resolve(GENERATED, copy.from, path.split("/").slice(1).join("/"));
        response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
        response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
        if (page !== undefined) {
          response.setHeader("Content-Type", extname(path) === ".html" ? "text/html" : "application/json");
          response.end(page);
        } else if (file?.startsWith(GENERATED) && existsSync(file) && statSync(file).isFile()) {
          createReadStream(file).pipe(response);
        } else next();
      });
    },
  };
}

function listFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => name.replaceAll("\\", "/"))
    .filter((name) => statSync(join(folder, name)).isFile());
}
