/**
 * An OpenAI-compatible endpoint of the reader's own, which may word the mentor's answers. Off until
 * the reader switches it on, and kept for this tab only (sessionStorage). Only a server on the
 * reader's own machine can be asked: the page's Content-Security-Policy allows no other address, so
 * that nothing on the page can ever send anything elsewhere. To use a server on another machine,
 * run a forwarder on this one (for instance `ssh -L 8080:server:8080 …`).
 */

export interface Endpoint {
  url: string; // the base address, "http://localhost:8080/v1"
  model: string;
  key: string; // "" where none is needed
}

const STORED = "fromnoise-endpoint";
const SECONDS = 30;
const LARGEST_REPLY = 1_000_000; // bytes
const REMEDY = "Is the server running, and does it allow this page's origin (CORS)?";

/** What is wrong with an endpoint's settings, or "". */
export function findFault({ url, model }: Endpoint): string {
  const address = URL.canParse(url) ? new URL(url) : null;
  if (address?.protocol !== "http:" || !["localhost", "127.0.0.1"].includes(address.hostname)) {
    return "The address must begin with http://localhost or http://127.0.0.1: only a server on your own machine can be asked.";
  }
  if (address.username || address.password || address.search || address.hash) {
    return "The address must hold no user name, no question mark and no #.";
  }
  return model.trim() ? "" : "Name the model: the server has a list at /v1/models.";
}

export function readEndpoint(): Endpoint | null {
  try {
    const data: unknown = JSON.parse(sessionStorage.getItem(STORED) ?? "null");
    const { url, model, key } = data as Endpoint;
    const texts = [url, model, key].every((value) => typeof value === "string");
    return texts && findFault({ url, model, key }) === "" ? { url, model, key } : null;
  } catch {
    return null; // nothing is kept
  }
}

export function keepEndpoint(endpoint: Endpoint | null): void {
  if (endpoint) sessionStorage.setItem(STORED, JSON.stringify(endpoint));
  else sessionStorage.removeItem(STORED);
}

/** What the endpoint replies, as it came. Throws an Error that says the remedy. */
export async function askEndpoint(endpoint: Endpoint, body: unknown): Promise<string> {
  const fault = findFault(endpoint);
  if (fault) throw new Error(fault);
  let response: Response;
  try {
    response = await fetch(endpoint.url.replace(/\/+$/, "") + "/chat/completions", {
      method: "POST",
      body: JSON.stringify(body),
      headers: {
        "Content-Type": "application/json",
        ...(endpoint.key && { Authorization: `Bearer ${endpoint.key}` }),
      },
      credentials: "omit",
      redirect: "error",
      referrerPolicy: "no-referrer",
      signal: AbortSignal.timeout(SECONDS * 1000),
    });
    if (!response.ok) throw new Error(`it answered ${response.status}`);
    return await readText(response);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(`${endpoint.url} could not be asked: ${why}. ${REMEDY}`);
  }
}

async function readText(response: Response): Promise<string> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text;
    text += value;
    if (text.length > LARGEST_REPLY) {
      await reader.cancel();
      throw new Error(`its answer is longer than ${LARGEST_REPLY} characters`);
    }
  }
}
