/** A real studio for tests: `fromnoise studio` with the bundled model, and pages of it in Chromium. */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32, deflateSync } from "node:zlib";
import { findViolations } from "./axe.ts";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { expect } from "vitest";
import { start, type Studio } from "./process.ts";

export { launch, runPython, start, type Studio } from "./process.ts";

/** The studio that all files share. */
export async function sharedStudio(): Promise<Studio> {
  const folder = process.env.STUDIO_SERVER!;
  const file = join(folder, "server.json");
  if (existsSync(file)) return JSON.parse(readFileSync(file, "utf8"));
  mkdirSync(folder, { recursive: true });
  const { address, pid, data } = await start(join(folder, "data"));
  writeFileSync(file, JSON.stringify({ address, pid, data }));
  return { address, pid, data };
}

/** A page of the studio, and what went wrong in it: errors, violations of the policy, failed answers, and
 * requests that leave this machine. */
export async function visit(
  browser: Browser, address: string, hash = "", options: BrowserContextOptions = {},
): Promise<{ page: Page; faults: string[] }> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) faults.push(`${message.type()}: ${message.text()}`);
  });
  page.on("dialog", (dialog) => (faults.push(`dialog: ${dialog.message()}`), void dialog.dismiss()));
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (!["data:", "blob:"].includes(url.protocol) && url.origin !== new URL(address).origin) faults.push(`elsewhere: ${url}`);
  });
  await page.goto(`${address}/studio.html${hash}`);
  return { page, faults };
}

/** Has pictures drawn by the API; the job once it is done. */
export async function draw(address: string, body: Record<string, unknown>): Promise<Record<string, any>> { // eslint-disable-line
  const asked = await fetch(`${address}/api/generate`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ steps: 2, ...body }),
  });
  if (!asked.ok) throw new Error(await asked.text());
  const { id } = await asked.json();
  for (;;) {
    const job = await (await fetch(`${address}/api/jobs/${id}`)).json();
    if (["done", "failed", "cancelled"].includes(job.state)) return job;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Fails for each violation of WCAG 2.2 AA. */
export async function checkAccess(page: Page): Promise<void> {
  const violations = await findViolations(page);
  expect(violations, page.url()).toEqual([]);
}

/** A grey PNG of 64 × 64 with a text chunk. */
export function makePng(key: string, text: string): Buffer {
  const chunk = (type: string, data: Buffer) => {
    const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
    const whole = Buffer.alloc(body.length + 8);
    whole.writeUInt32BE(data.length);
    body.copy(whole, 4);
    whole.writeUInt32BE(crc32(body), body.length + 4);
    return whole;
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(128, 0);
  head.writeUInt32BE(128, 4);
  head.set([8, 0, 0, 0, 0], 8);
  const rows = Buffer.alloc(128 * 129, 128);
  for (let y = 0; y < 128; y++) rows[y * 129] = 0;
  return Buffer.concat([
    Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", head),
    chunk("iTXt", Buffer.concat([Buffer.from(`${key}\0\0\0\0\0`, "latin1"), Buffer.from(text)])),
    chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0)),
  ]);
}
