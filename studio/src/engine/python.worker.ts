/** The worker that runs Python. */

import type { loadPyodide as LoadPyodide } from "pyodide";
import { expand, readFile, readManifest, type FileEntry } from "./files.ts";
import { createHost, type Host } from "./pythonHost.ts";
import type { Fault, Reply, Request } from "./pythonMessages.ts";

let host: Promise<Host> | null = null;

self.onmessage = async ({ data }: MessageEvent<Request & { id: number }>) => {
  const { id, ...request } = data;
  try {
    if (request.kind === "load") {
      host ??= load(request.root);
      await host;
      leaveNetwork();
      return reply({ id, value: null });
    }
    if (!host) throw new Error("Python is not loaded yet.");
    const value = (await host)(request as Exclude<Request, { kind: "load" }>) as { error?: Fault };
    if (value?.error) reply({ id, error: value.error });
    else reply({ id, value });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (request.kind === "load") host = null; // the next request tries again
    // past this Python cannot be trusted: the page starts another worker
    const kind = request.kind === "load" ? "Load" : "Fatal";
    reply({ id, error: { message, line: null, kind, reader: false } });
  }
};

function reply(message: Reply): void {
  self.postMessage(message);
}

/** Takes the ways to the network and to stored data from the code that runs here from now on, which
 * may be the reader's own. */
function leaveNetwork(): void {
  const names = [
    "fetch", "XMLHttpRequest", "WebSocket", "WebSocketStream", "EventSource", "WebTransport",
    "importScripts", "Worker", "SharedWorker", "BroadcastChannel", "indexedDB", "caches",
  ];
  for (const name of names) {
    Object.defineProperty(self, name, { value: undefined, configurable: false, writable: false });
  }
}

async function load(root: string): Promise<Host> {
  const folders = { runtimes: new URL("runtimes/", root).href, python: new URL("python/", root).href };
  const [runtimes, python] = await Promise.all([
    readManifest<Record<string, FileEntry>>(folders.runtimes + "manifest.json"),
    readManifest<Record<string, FileEntry>>(folders.python + "manifest.json"),
  ]);
  const wanted = [
    [folders.runtimes + "pyodide.asm.wasm.packed", runtimes["pyodide.asm.wasm.packed"]],
    [folders.runtimes + "python_stdlib.zip", runtimes["python_stdlib.zip"]],
    [folders.python + "fromnoise.zip", python["fromnoise.zip"]],
  ] as const;
  const total = wanted.reduce((sum, [, entry]) => sum + entry.bytes, 0);
  let loaded = 0;
  const progress = (bytes: number) => {
    loaded += bytes;
    reply({ progress: { loaded, total } });
  };
  // from the site's own folder, as it is: a bundler would take its parts for node along
  const module = import(/* @vite-ignore */ folders.runtimes + "pyodide.mjs");
  const [wasm, library, archive] = await Promise.all(
    wanted.map(([url, entry]) => readFile(url, entry, progress)),
  );
  const files: Record<string, [BodyInit, string]> = {
    [folders.runtimes + "pyodide.asm.wasm"]: [await expand(wasm), "application/wasm"],
    [folders.runtimes + "python_stdlib.zip"]: [library, "application/zip"],
  };
  // Pyodide fetches these two itself: it is given what was read, checked and expanded above.
  const fetchFromHost = self.fetch;
  self.fetch = (input, options) => {
    const url = input instanceof globalThis.Request ? input.url : String(input);
    const [content, type] = files[url] ?? [];
    if (!content) return fetchFromHost.call(self, input, options);
    return Promise.resolve(new Response(content, { headers: { "Content-Type": type! } }));
  };
  try {
    const { loadPyodide } = (await module) as { loadPyodide: typeof LoadPyodide };
    const pyodide = await loadPyodide({
      indexURL: folders.runtimes,
      stdout: () => {}, // what code prints is caught where it runs, see studio/python/tab.py
    });
    return createHost(pyodide, archive, (line) => reply({ line }));
  } finally {
    self.fetch = fetchFromHost;
  }
}
