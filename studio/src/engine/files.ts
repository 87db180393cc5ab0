/** Reads the site's own files with progress and a check of their content. */

export interface FileEntry {
  bytes: number;
  sha256: string;
}

const REMEDY = "Build the site again with `make site`, or reload the page.";

/** Reads a JSON file that names other files. Always asks the host, so that a new build is seen. */
export async function readManifest<T>(url: string, signal?: AbortSignal): Promise<T> {
  const response = await request(url, { cache: "no-cache", signal });
  try {
    return (await response.json()) as T;
  } catch {
    throw new Error(`The file ${url} is damaged. ${REMEDY}`);
  }
}

/** The content of a file. `entry`: its size and hash from a manifest. progress: is given the number
 * of bytes that came since its last call. */
export async function readFile(
  url: string,
  entry: FileEntry,
  progress?: (bytes: number) => void,
  signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  // the hash in the address keeps caches of an older build away
  const response = await request(`${url}?${entry.sha256.slice(0, 12)}`, { signal });
  const content = new Uint8Array(entry.bytes);
  let place = 0;
  const reader = response.body!.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (place + value.length > content.length) {
      await reader.cancel();
      throw new Error(`The file ${url} is longer than it should be. ${REMEDY}`);
    }
    content.set(value, place);
    place += value.length;
    progress?.(value.length);
  }
  if (place < content.length) {
    throw new Error(
      `The file ${url} came only in part: ${place} of ${entry.bytes} bytes. Reload the page.`,
    );
  }
  // crypto.subtle exists only on https and localhost
  if (globalThis.crypto?.subtle && (await computeHash(content)) !== entry.sha256) {
    throw new Error(`The file ${url} is not the one that this page was built with. ${REMEDY}`);
  }
  return content;
}

/** Expands gzip. */
export async function expand(content: Uint8Array<ArrayBuffer>): Promise<ArrayBuffer> {
  const stream = new Blob([content]).stream().pipeThrough(new DecompressionStream("gzip"));
  return await new Response(stream).arrayBuffer();
}

async function request(address: string, options: RequestInit): Promise<Response> {
  const url = address.replace(/\?.*/, ""); // as the reader may know it
  let response: Response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Error(`The file ${url} could not be loaded. Check the connection and reload the page.`);
  }
  // the service worker says why, see src/service-worker.ts
  if (response.status === 503) throw new Error((await response.text()).trim() || `${url} is not available.`);
  if (!response.ok || !response.body) {
    throw new Error(`The file ${url} is missing (the host answered ${response.status}). ${REMEDY}`);
  }
  return response;
}

async function computeHash(content: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
