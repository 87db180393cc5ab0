import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

export default defineConfig({
  base: "./", // the pages work from any folder of a host
  plugins: [svelte()],
  worker: { format: "es" },
  build: { outDir: "../src/fromnoise/learn/site", emptyOutDir: true, target: "es2022" },
});
