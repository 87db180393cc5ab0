/** A PythonWorker whose worker runs in the test's own thread, on Pyodide's build for node. */

import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { createRequire } from "node:module";
import { loadPyodide } from "pyodide";
import { createHost } from "../../src/engine/pythonHost.ts";
import { PythonWorker, type WorkerLike } from "../../src/engine/python.ts";
import type { Request } from "../../src/engine/pythonMessages.ts";

import { GENERATED } from "./golden.ts";


export async function startPython(): Promise<PythonWorker> {
  const folder = dirname(createRequire(import.meta.url).resolve("pyodide/package.json"));
  const pyodide = await loadPyodide({ indexURL: folder, stdout: () => {} });
  let report = (_: number) => {};
  const archive = readFileSync(new URL("python/fromnoise.zip", GENERATED));
  const host = createHost(pyodide, new Uint8Array(archive), (line) => report(line));
  const makeWorker = (): WorkerLike => {
    const worker: WorkerLike = {
      onmessage: null,
      onerror: null,
      terminate: () => {},
      postMessage(message) {
        const { id, ...request } = structuredClone(message) as Request & { id: number };
        queueMicrotask(() => {
          const send = (data: unknown) =>
            worker.onmessage?.({ data: structuredClone(data) } as MessageEvent);
          report = (line) => send({ line });
          if (request.kind === "load") return send({ id, value: null });
          const value = host(request as Exclude<Request, { kind: "load" }>) as { error?: unknown };
          send(value?.error ? { id, error: value.error } : { id, value });
        });
      },
    };
    return worker;
  };
  return new PythonWorker(makeWorker, "");
}
