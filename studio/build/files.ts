/** The Vite plugin that writes files.json: every file of the site with its hash, and the build's own.
 * By it the service worker knows which files belong together. build.txt holds the build's hash alone:
 * it is asked for at every page, and files.json only when it is another one. */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Plugin } from "vite";

const APART = ["build.txt", "files.json", "service-worker.js"]; // the browser looks after the worker's own file

export function fileList(): Plugin {
  let folder = "";
  return {
    name: "fromnoise-files",
    apply: "build",
    configResolved({ root, build }) {
      folder = resolve(root, build.outDir);
    },
    closeBundle() {
      writeFileList(folder);
    },
  };
}

export function writeFileList(folder: string): void {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => name.replaceAll("\\", "/"))
    .filter((name) => !APART.includes(name) && statSync(join(folder, name)).isFile())
    .sort();
  const hash = (content: string | Buffer) => createHash("sha256").update(content).digest("hex");
  const files = Object.fromEntries(names.map((name) => [name, hash(readFileSync(join(folder, name)))]));
  const list = { build: hash(JSON.stringify(files)), files };
  writeFileSync(join(folder, "files.json"), JSON.stringify(list) + "\n");
  writeFileSync(join(folder, "build.txt"), list.build + "\n");
}
