/** The studio as it runs: the real server with the bundled model in a process of its own, and a browser. */

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type Browser, type BrowserContextOptions, type Page } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const ROOT = new URL("../../../..", import.meta.url).pathname;
const SOURCES = join(ROOT, "src");

export interface Drawn {
  id: string;
  file: string;
  width: number;
  height: number;
  seed: string;
}

/** A folder of models that Python code writes into its first argument; and what the code prints. */
export function writeModels(code: string): { folder: string; printed: string } {
  const folder = mkdtempSync(join(tmpdir(), "studio-models-"));
  const env = { ...process.env, PYTHONPATH: `${SOURCES}:${join(ROOT, "tests")}`, OMP_NUM_THREADS: "1" };
  return { folder, printed: execFileSync("python", ["-c", code, folder], { env, encoding: "utf8" }) };
}

const launch = (): Promise<Browser> => chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });

export class Studio {
  readonly faults: string[] = []; // errors in pages, refused policies, requests elsewhere

  private constructor(readonly address: string, readonly browser: Browser, private readonly server: ChildProcess | null, private readonly folder: string) {}

  /** STUDIO=address, STUDIO_DATA=its folder: a server that runs already, which saves its start while one works on the page.
   * env: what the server alone is told; then it is always a new one. */
  static async start(env: Record<string, string> = {}): Promise<Studio> {
    if (process.env.STUDIO && !Object.keys(env).length) return new Studio(process.env.STUDIO, await launch(), null, process.env.STUDIO_DATA ?? "");
    const folder = mkdtempSync(join(tmpdir(), "studio-"));
    const server = spawn("fromnoise", ["studio", "--no-browser", "--port", "0", "--data", folder], {
      env: { ...process.env, PYTHONPATH: SOURCES, OMP_NUM_THREADS: "1", ...env }, stdio: ["ignore", "pipe", "inherit"],
    });
    const address = await new Promise<string>((resolve, reject) => {
      let text = "";
      server.stdout!.on("data", (data) => {
        text += data;
        const found = /http:\/\/[\w.:]+/.exec(text);
        if (found) resolve(found[0]);
      });
      server.on("exit", () => reject(new Error(`the server ended: ${text}`)));
    });
    for (;;) {
      if (await fetch(`${address}/readyz`).then((answer) => answer.ok, () => false)) break;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    return new Studio(address, await launch(), server, folder);
  }

  async stop(): Promise<void> {
    await this.browser.close();
    if (!this.server) return;
    const ended = new Promise((resolve) => this.server!.on("exit", resolve));
    this.server.kill("SIGTERM");
    await ended;
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Asks the API, as a program does. */
  async api<T>(path: string, body?: unknown): Promise<T> {
    const answer = await fetch(`${this.address}/api/${path}`, body === undefined ? {} : {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
    });
    const data = await answer.json();
    if (!answer.ok) throw new Error(JSON.stringify(data));
    return data as T;
  }

  /** An upload as the server keeps it, by the hash that a job names: levels of grey. */
  readUpload(hash: string): { width: number; height: number; pixels: number[] } {
    const code = "import sys; from PIL import Image; p = Image.open(sys.argv[1]).convert('L'); print(*p.size, *p.tobytes())";
    const file = join(this.folder, "uploads", hash.slice(0, 2), `${hash}.png`);
    const [width, height, ...pixels] = execFileSync("python", ["-c", code, file], { maxBuffer: 1 << 28 }).toString().trim().split(" ").map(Number);
    return { width, height, pixels };
  }

  /** The pictures of a request, drawn. */
  async draw(body: Record<string, unknown>, kind = "generate"): Promise<Drawn[]> {
    const { id } = await this.api<{ id: string }>(kind, body);
    for (;;) {
      const job = await this.api<{ state: string; pictures: Drawn[]; error: unknown }>(`jobs/${id}`);
      if (job.state === "done") return job.pictures;
      if (!["queued", "running"].includes(job.state)) throw new Error(JSON.stringify(job.error));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** A page of its own, as a new person has it. */
  async visit(place: string, options: BrowserContextOptions = {}): Promise<Page> {
    const context = await this.browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: "reduce", ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(30_000);
    page.on("pageerror", (error) => this.faults.push(`error: ${error.message}`));
    page.on("console", (message) => {
      // an answer of 4xx is written there too; the tests that want one look at the page
      if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) this.faults.push(`${message.text()}`);
    });
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (!["data:", "blob:"].includes(url.protocol) && url.origin !== this.address) this.faults.push(`elsewhere: ${url}`);
    });
    await page.goto(`${this.address}/studio.html${place}`);
    return page;
  }
}

/** What axe finds on a page: "rule: element". */
export async function findViolations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
    const found = await (window as any).axe.run(document, { runOnly: tags });
    return found.violations.flatMap((rule: any) => rule.nodes.map((node: any) => `${rule.id}: ${node.target} ${node.failureSummary}`));
  });
}
