/** Ends the image server that the tests of the studio's page share, and removes its pictures. */

import { existsSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export default function setup(): () => void {
  const folder = join(tmpdir(), `fromnoise-studio-${process.pid}`);
  return () => {
    const file = join(folder, "server.json");
    if (existsSync(file)) process.kill((JSON.parse(readFileSync(file, "utf8")) as { pid: number }).pid, "SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  };
}
