/** A real studio in a process of its own: `fromnoise studio` with the bundled model; and a browser. */

import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import { chromium, type Browser } from "playwright-core";

const ROOT = new URL("../../../../", import.meta.url).pathname;
export const PYTHON = process.env.PYTHON ?? join(ROOT, ".venv/bin/python");
export const ENV = { OMP_NUM_THREADS: "1", ...process.env, PYTHONPATH: join(ROOT, "src") };

export interface Studio {
  address: string;
  pid: number;
  data: string;
  process?: ChildProcess;
}

/** Starts a studio; it has answered when this returns. before: Python that runs first. */
export async function start(data: string, port = 0, before = "pass"): Promise<Studio> {
  const command = ["-c", `${before}; from fromnoise.cli.main import main; main()`, "studio", "--no-browser", "--port", String(port), "--data", data, "--slots", "2"];
  const child = spawn(PYTHON, command, { env: ENV, stdio: ["ignore", "pipe", "inherit"], detached: true });
  const address = await new Promise<string>((resolve, reject) => {
    child.stdout!.on("data", (text) => {
      const found = /http:\/\/\S+/.exec(String(text));
      if (found) resolve(found[0]);
    });
    child.on("exit", (code) => reject(new Error(`the studio ended with ${code}`)));
  });
  child.stdout!.on("error", () => {}).resume();
  (child.stdout as unknown as { unref(): void }).unref();
  child.unref();
  while (!(await fetch(`${address}/readyz`).catch(() => null))?.ok) await new Promise((resolve) => setTimeout(resolve, 200));
  return { address, pid: child.pid!, data, process: child };
}

export const launch = (): Promise<Browser> => chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });

export function runPython(code: string, ...values: string[]): string {
  const done = spawnSync(PYTHON, ["-c", code, ...values], { env: ENV, encoding: "utf8" });
  if (done.status) throw new Error(done.stderr);
  return done.stdout;
}
