/** The service worker: keeps the site's files for the next visit, and adds the headers that isolate a
 * page, so that threads work on any static host.
 *
 * files.json names every file of a build with its hash, and build.txt the build alone. A page belongs to
 * the build that was newest when it was opened, and is given files of that build alone: a file whose
 * content is another one is refused, with the remedy, and never mixed in. */

interface List {
  build: string;
  files: Record<string, string>; // path → SHA-256
}

interface FetchEvent extends Event {
  readonly request: Request;
  readonly clientId: string;
  readonly resultingClientId: string;
  respondWith(response: Promise<Response>): void;
  waitUntil(work: Promise<unknown>): void;
}

/** The part of ServiceWorkerGlobalScope that is used. */
interface Scope {
  readonly registration: { scope: string };
  readonly clients: {
    claim(): Promise<void>;
    matchAll(options: { type: string; includeUncontrolled: boolean }): Promise<{ id: string }[]>;
  };
  skipWaiting(): Promise<void>;
  addEventListener(name: string, listener: (event: FetchEvent) => void): void;
}

const worker = self as unknown as Scope;
const scope = new URL(worker.registration.scope);
const CACHE = `fromnoise ${scope.pathname}`;
const CHECKED_BY_PAGE = ["model/", "runtimes/", "python/"]; // large: they are passed on as they come
const SERVED = /^(api|v1|sdapi|healthz|readyz|metrics|openapi\.json)(\/|\?|$)/; // the image server's own: never kept
const PATIENCE = 3000; // milliseconds for build.txt or files.json, after which what is kept must do

worker.addEventListener("install", (event) => event.waitUntil(worker.skipWaiting()));
worker.addEventListener("activate", (event) => event.waitUntil(worker.clients.claim()));
worker.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(scope.href)) return;
  if (!SERVED.test(request.url.slice(scope.href.length))) {
    event.respondWith(answer(event).catch(refuse));
  }
});

async function answer(event: FetchEvent): Promise<Response> {
  const { request } = event;
  const cache = await caches.open(CACHE);
  const opens = request.mode === "navigate";
  const list = opens ? await fetchList(cache, event) : await findList(cache, event);
  if (!list) return isolate(await fetch(request));
  if (event.resultingClientId) await remember(cache, event.resultingClientId, list);
  return (
    (await serve(event, cache, list)) ??
    // a new build was laid down between files.json and this file: once more
    (opens ? await serve(event, cache, (await fetchList(cache, event))!) : null) ??
    refuse(new Error("The site was renewed after this page was opened. Reload the page."))
  );
}

/** A file of the list's build; null where the host has another content by now. */
async function serve(event: FetchEvent, cache: Cache, list: List): Promise<Response | null> {
  const { request } = event;
  let path = decodeURIComponent(new URL(request.url).pathname.slice(scope.pathname.length));
  if (path === "" || path.endsWith("/")) path += "index.html";
  const hash = list.files[path];
  if (!hash) return isolate(await fetch(request)); // not of the build, such as files.json
  const key = address(`file/${hash}/${path}`);
  const kept = await cache.match(key);
  if (kept) return kept;
  const response = isolate(await fetch(request.url, { cache: "no-cache" }));
  if (!response.ok) return response;
  if (CHECKED_BY_PAGE.some((folder) => path.startsWith(folder)) && !path.endsWith(".json")) {
    const copy = response.clone();
    event.waitUntil(keep(cache, key, hash, copy).catch(() => false)); // the disk may be full
    return response;
  }
  const [copy, content] = [response.clone(), response];
  if ((await computeHash(await copy.arrayBuffer())) !== hash) return null;
  event.waitUntil(cache.put(key, content.clone()).catch(() => {}));
  return content;
}

async function keep(cache: Cache, key: string, hash: string, response: Response): Promise<void> {
  const { headers } = response;
  const content = await response.arrayBuffer();
  if ((await computeHash(content)) === hash) await cache.put(key, new Response(content, { headers }));
}

/** The list of the page that asks. Chromium gives a page that becomes isolated another id than it
 * announced: such a page is of the build that is newest when it first asks for a file. */
async function findList(cache: Cache, event: FetchEvent): Promise<List | null> {
  const client = await cache.match(address(`client/${event.clientId}`));
  const name = client ? await client.text() : "current";
  const stored = await cache.match(address(`list/${name}`));
  const list = stored ? ((await stored.json()) as List) : await fetchList(cache, event);
  if (list && !client && event.clientId) await remember(cache, event.clientId, list);
  return list;
}

function remember(cache: Cache, client: string, list: List): Promise<void> {
  return cache.put(address(`client/${client}`), new Response(list.build));
}

/** The host's list, or without a connection the last one that was seen. */
async function fetchList(cache: Cache, event: FetchEvent): Promise<List | null> {
  const current = await cache.match(address("list/current"));
  const known = current ? ((await current.json()) as List) : null;
  const ask = (file: string) =>
    fetch(new URL(file, scope), { cache: "no-cache", signal: AbortSignal.timeout(PATIENCE) });
  let list: List;
  try {
    const build = await ask("build.txt");
    if (build.ok && known?.build === (await build.text()).trim()) return known;
    const response = await ask("files.json");
    if (!response.ok) return known;
    list = (await response.json()) as List;
  } catch {
    return known;
  }
  if (list.build !== known?.build) {
    const text = JSON.stringify(list);
    await cache.put(address("list/current"), new Response(text));
    await cache.put(address(`list/${list.build}`), new Response(text));
    event.waitUntil(prune(cache, list));
  }
  return list;
}

/** Removes what no open page and not the newest build needs. */
async function prune(cache: Cache, newest: List): Promise<void> {
  const open = await worker.clients.matchAll({ type: "all", includeUncontrolled: true });
  const alive = new Set(open.map(({ id }) => id));
  const builds = new Set([newest.build, "current"]);
  const files = new Set(Object.values(newest.files));
  const keys = (await cache.keys()).map(({ url }) => url);
  const parts = (url: string) => url.slice(address("").length).split("/");
  for (const url of keys.filter((key) => parts(key)[0] === "client")) {
    if (alive.has(parts(url)[1])) builds.add(await (await cache.match(url))!.text());
    else await cache.delete(url);
  }
  for (const url of keys.filter((key) => parts(key)[0] === "list")) {
    if (!builds.has(parts(url)[1])) await cache.delete(url);
    else {
      const list = (await (await cache.match(url))!.json()) as List;
      for (const hash of Object.values(list.files)) files.add(hash);
    }
  }
  for (const url of keys.filter((key) => parts(key)[0] === "file")) {
    if (!files.has(parts(url)[1])) await cache.delete(url);
  }
}

/** A name in the cache. No request of a page has such an address. */
function address(name: string): string {
  return new URL(`.kept/${name}`, scope).href;
}

/** The response with the headers of an isolated page. */
function isolate(response: Response): Response {
  if (response.type === "opaqueredirect" || response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  const { status, statusText } = response;
  const empty = [101, 204, 205, 304].includes(status);
  return new Response(empty ? null : response.body, { status, statusText, headers });
}

function refuse(error: unknown): Response {
  const message = error instanceof Error ? error.message : String(error);
  return isolate(
    new Response(`${message}\n`, {
      status: 503, statusText: "Not available", headers: { "Content-Type": "text/plain; charset=utf-8" },
    }),
  );
}

async function computeHash(content: ArrayBuffer): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
