/** A static server for tests: some folders under one address, with or without the headers that
 * isolate a page (without them there are no threads). */

import { createServer, type Server } from "node:http";
import { createReadStream, existsSync, statSync } from "node:fs";
import { extname, join, normalize } from "node:path";
import type { AddressInfo } from "node:net";

const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".mjs": "text/javascript",
  ".css": "text/css", ".json": "application/json", ".wasm": "application/wasm", ".svg": "image/svg+xml",
  ".webp": "image/webp", ".png": "image/png", ".woff2": "font/woff2",
};

export interface StaticServer {
  address: string; // ends with "/"
  requests: string[]; // the paths that were asked for
  missing: Set<string>; // paths that are answered with 404
  close(): Promise<void>;
}

/** folders: address under the server ("" for the first) → folder on disk. prefix: of all addresses,
 * such as "deep/site/". */
export async function serve(
  folders: Record<string, string>,
  options: { isolated?: boolean; prefix?: string } = {},
): Promise<StaticServer> {
  const { isolated = true, prefix = "" } = options;
  const requests: string[] = [];
  const missing = new Set<string>();
  const order = Object.entries(folders).sort(([a], [b]) => b.length - a.length);
  const server: Server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url!, "http://x").pathname).slice(1);
    requests.push(path);
    const inside = path.startsWith(prefix) ? path.slice(prefix.length) || "index.html" : null;
    const entry = inside === null ? undefined : order.find(([name]) => inside.startsWith(name));
    const file = entry && join(entry[1], normalize(inside!.slice(entry[0].length)));
    if (!file || missing.has(inside!) || !existsSync(file) || !statSync(file).isFile()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      "Content-Type": TYPES[extname(file)] ?? "application/octet-stream",
      ...(isolated && {
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Embedder-Policy": "require-corp",
      }),
    });
    createReadStream(file).pipe(response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    address: `http://localhost:${port}/${prefix}`,
    requests,
    missing,
    close: () => new Promise((resolve) => (server.closeAllConnections(), server.close(() => resolve()))),
  };
}
