import { svelte } from "@sveltejs/vite-plugin-svelte";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [svelte()],
  test: {
    include: ["tests/**/*.test.ts"],
    fileParallelism: false,
    passWithNoTests: true,
    expect: { poll: { timeout: 20_000 } }, // a page beside other work is slow
    // one image server for all tests of the studio's page: the first that needs it starts it
    globalSetup: ["tests/browser/app/ending.ts"],
    env: { STUDIO_SERVER: join(tmpdir(), `fromnoise-studio-${process.pid}`) },
  },
});
