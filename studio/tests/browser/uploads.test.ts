/** Pictures of the reader's own in the built site: what is no picture, or one that would take the tab's
 * memory, gets a message, and the explorable goes on. */

import { readFileSync } from "node:fs";
import { crc32, deflateSync } from "node:zlib";
import { chromium, type Browser, type Locator, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Explorable } from "./explorable.ts";
import { serve, type StaticServer } from "./server.ts";

const site = process.env.SITE ?? new URL("../../../src/fromnoise/learn/site/", import.meta.url).pathname;
const whale = readFileSync(new URL("../../src/given/whale.webp", import.meta.url));

let server: StaticServer;
let browser: Browser;
let page: Page;

beforeAll(async () => {
  server = await serve({ "": site });
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
  page = await browser.newPage();
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
});

/** A sound black PNG of one bit a pixel: 20,000 × 20,000 are 50 KB as a file, and 1.6 GB in memory. */
function makePng(side: number): Buffer {
  const chunk = (type: string, data: Buffer) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(side, 0);
  head.writeUInt32BE(side, 4);
  head[8] = 1; // bit a pixel; the other bytes: grey, deflate, no filter, no interlacing
  const rows = deflateSync(Buffer.alloc(side * (Math.ceil(side / 8) + 1)));
  return Buffer.concat([
    Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", head), chunk("IDAT", rows), chunk("IEND", Buffer.alloc(0)),
  ]);
}

const SCRIPT = "<img src=x onerror=alert(1)>.png";
const BAD: [string, { name: string; mimeType: string; buffer: Buffer }, RegExp][] = [
  ["text", { name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("hello") }, /a\.txt is no PNG, JPEG or WebP file/],
  ["text called a picture", { name: "a.png", mimeType: "image/png", buffer: Buffer.from("hello") }, /a\.png cannot be read/],
  ["nothing", { name: "a.png", mimeType: "image/png", buffer: Buffer.alloc(0) }, /a\.png cannot be read/],
  ["half a picture", { name: "a.webp", mimeType: "image/webp", buffer: whale.subarray(0, 40) }, /a\.webp cannot be read/],
  ["SVG with a script", { name: "a.png", mimeType: "image/png", buffer: Buffer.from("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>") }, /cannot be read/],
  ["400 million pixels in 50 KB", { name: "bomb.png", mimeType: "image/png", buffer: makePng(20_000) }, /more than 50 million pixels/],
  ["a head that claims more", { name: "claims.png", mimeType: "image/png", buffer: Buffer.from(makePng(8).map((byte, i) => (i === 16 || i === 20 ? 0x7f : byte))) }, /cannot be read|more than 50 million/],
  ["21 MB", { name: "large.png", mimeType: "image/png", buffer: Buffer.alloc(21_000_000) }, /large\.png has 21 MB/],
  ["a name that is HTML", { name: SCRIPT, mimeType: "image/png", buffer: Buffer.from("x") }, /<img src=x onerror=alert\(1\)>\.png cannot/],
  ["a long name", { name: `${"n".repeat(250)}.png`, mimeType: "image/png", buffer: Buffer.from("x") }, /n{60} … cannot/],
];

async function refuse(one: Explorable, field: Locator, after = async () => {}): Promise<void> {
  page.on("dialog", () => expect.fail("a script of a file ran"));
  for (const [what, file, says] of BAD) {
    await field.setInputFiles(file);
    await after();
    const alert = one.frame.getByRole("alert").filter({ hasText: says });
    await alert.waitFor({ timeout: 30_000 }).catch(async () => {
      throw new Error(`${what}: ${(await one.frame.getByRole("alert").allInnerTexts()).join()}`);
    });
  }
}

test("CLIP matrix: bad files get their message, and a good one is compared", async () => {
  const one = await Explorable.open(page, server.address, "3-clip-the-bridge.html", "clip-matrix");
  await one.run("Compare captions");
  const rows = one.frame.locator(".drawing tbody tr");
  const field = one.frame.locator("input[type=file]");
  await refuse(one, field);
  expect(await rows.count()).toBe(4);
  await field.setInputFiles({ name: "mine.webp", mimeType: "image/webp", buffer: whale });
  await expect.poll(() => rows.count(), { timeout: 30_000 }).toBe(5);
  expect(await one.frame.getByRole("alert").count()).toBe(0);
  const { cosines } = (await one.save()).data;
  cosines[4].forEach((cosine: number, i: number) => expect(cosine).toBeCloseTo(cosines[3][i], 2)); // it is the given whale
}, 180_000);

test("latent lab: the same", async () => {
  const one = await Explorable.open(page, server.address, "2-latent-diffusion.html", "latent-lab");
  await one.frame.getByRole("radio", { name: "a file of yours" }).check();
  const field = one.frame.locator("input[type=file]");
  await refuse(one, field, () => one.button("Encode it").click());
  await field.setInputFiles({ name: "mine.webp", mimeType: "image/webp", buffer: whale });
  await one.run("Encode it");
  expect((await one.save()).data.psnr_encode_decode).toBeGreaterThan(15);
}, 180_000);
