/** The Python side of the worker: a Pyodide with this repository's files, answering requests. Apart
 * from the worker itself, so that tests run it without one. */

import type { PyodideInterface } from "pyodide";
import { BrownianNoise } from "../lab/brownian.ts";
import { denoise, MIXTURE } from "../lab/mixture.ts";
import { Generator } from "../lab/random.ts";
import type { Fault, NoiseSpec, Numbers, Request, RunReply } from "./pythonMessages.ts";

const FOLDER = "/fromnoise"; // where the archive lies in Pyodide's file system

/** The functions of studio/python/bridge.py. Python's None is undefined here. */
interface Bridge {
  call(name: string, args: string, seconds?: number): string;
  start(
    run: number, name: string | undefined, source: string | undefined, fn: string, x: Numbers,
    shape: string, sigmas: string, options: string, draw?: (s: number, t: number) => Numbers,
    seconds?: number,
  ): RunReply & { error?: Fault };
  finish(run: number, answer: (x: Numbers, sigma: number) => Numbers, seconds?: number): RunReply;
  send(run: number, x0: Numbers, uncond?: Numbers, seconds?: number): RunReply;
  supply(run: number, steps: string, noises: Numbers[], seconds?: number): RunReply;
  drop(run: number): void;
  watch_lines(report: (line: number) => void): void;
}

export type Host = (request: Exclude<Request, { kind: "load" }>) => unknown;

/** archive: the bytes of fromnoise.zip. report: is told which line of the reader's code runs. */
export function createHost(
  pyodide: PyodideInterface,
  archive: ArrayBuffer | Uint8Array,
  report: (line: number) => void,
): Host {
  pyodide.unpackArchive(archive, "zip", { extractDir: FOLDER });
  pyodide.runPython(`import sys; sys.path.insert(0, "${FOLDER}")`);
  const bridge = pyodide.pyimport("bridge") as unknown as Bridge;
  bridge.watch_lines(report);
  return (request) => {
    switch (request.kind) {
      case "call":
        return JSON.parse(bridge.call(request.function, request.arguments, request.seconds));
      case "start": {
        const { run, name, source, x, shape, sigmas, options, noise, answers, seconds } = request;
        const reply = bridge.start(
          run, name, source, request.function, x, JSON.stringify(shape), JSON.stringify(sigmas),
          JSON.stringify(options), openNoise(noise), seconds,
        );
        if (answers !== "mixture" || !reply.query) return reply;
        const answer = (x: Numbers, sigma: number) => Float64Array.from(x, (value) => denoise(MIXTURE, value, sigma));
        return bridge.finish(run, answer, seconds);
      }
      case "send":
        return bridge.send(request.run, request.x0, request.uncond, request.seconds);
      case "supply":
        return bridge.supply(
          request.run, JSON.stringify(request.steps), request.noises, request.seconds,
        );
      case "drop":
        return bridge.drop(request.run);
    }
  };
}

/** A source of noise in the worker, as diffusion/noise.py and brownian.py; undefined: the page's. */
export function openNoise(spec: NoiseSpec): ((s: number, t: number) => Numbers) | undefined {
  if (spec.kind === "page") return undefined;
  if (spec.kind === "none") return () => new Float32Array(spec.count);
  if (spec.kind === "brownian") {
    const path = new BrownianNoise(spec.seed, spec.count, spec.low, spec.high);
    return (s, t) => path.draw(s, t);
  }
  const generator = new Generator(spec.seed);
  generator.drawNormal(spec.count); // the noise that the run starts from
  return () => generator.drawNormal(spec.count);
}
