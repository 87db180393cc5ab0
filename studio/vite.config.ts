import { existsSync } from "node:fs";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";
import { fileList } from "./build/files.ts";
import { site } from "./build/site.ts";
import { studio } from "./build/studio.ts";

/** KaTeX offers each font in three formats. All browsers that run the site read the first. */
const oneFontFormat: Plugin = {
  name: "one-font-format",
  enforce: "pre",
  transform(code, id) {
    if (!id.includes("katex") || !id.endsWith(".css")) return;
    return code.replaceAll(/,\s*url\([^)]*\.(?:woff|ttf)\) format\("[^"]*"\)/g, "");
  },
};

const worker = "src/service-worker.ts"; // its address must stay the same, and its folder is its reach
const input: Record<string, string> = { main: "src/main.ts", studio: "studio.html" };
if (existsSync(new URL(worker, import.meta.url))) input["service-worker"] = worker;

export default defineConfig({
  base: "./", // the pages work from any folder of a host
  plugins: [oneFontFormat, svelte(), site(), studio(), fileList()],
  worker: { format: "es" },
  server: {
    fs: { allow: [".."] },
    proxy: Object.fromEntries(["/api", "/v1", "/healthz"].map((path) => [path, "http://127.0.0.1:8188"])),
  },
  build: {
    outDir: "../src/fromnoise/learn/site",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // the pages' policy admits no data: fonts
    chunkSizeWarningLimit: 1500,
    rolldownOptions: {
      input,
      output: {
        entryFileNames: ({ name }) => (name === "service-worker" ? "[name].js" : "assets/[name]-[hash].js"),
      },
    },
  },
});
