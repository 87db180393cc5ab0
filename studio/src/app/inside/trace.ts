/** Traces of pictures: asked for, waited for, and their panels read. */

import { ask, client, Fault, makeFault, type Schemas } from "../api.ts";
import { jobs, type LiveJob } from "../jobs.svelte.ts";
import { session } from "../session.svelte.ts";

export type Trace = Schemas["InsideOut"];
export type Call = Schemas["InsideCall"];
export type PanelData = Schemas["PanelOut"];
export type PanelName = "sigmas" | "norms" | "guidance" | "latents" | "frame" | "words" | "map" | "difference";
export type Of = "x" | "cond" | "uncond" | "guided" | "eps";
export type Changes = NonNullable<Schemas["InsideBody"]["changes"]>;
export interface Asked {
  without?: string;
  which?: number;
  changes?: Partial<Changes>;
}
export interface PanelQuery {
  call?: number;
  of?: Of;
  word?: number;
  layer?: number;
  other?: string;
  other_picture?: string;
}

export const KINDS: { of: Of; label: string; none: string }[] = [
  { of: "x", label: "x, noisy", none: "" },
  { of: "cond", label: "x0 with the prompt", none: "" },
  { of: "uncond", label: "x0 without the prompt", none: "Guidance does not act here: the network is not asked without the prompt." },
  { of: "guided", label: "x0, guided", none: "The sampler asks again in this step; its last answer counts." },
  { of: "eps", label: "eps, the noise", none: "" },
];
const KEPT = 300; // panels that are remembered
const remembered = new Map<string, Promise<PanelData>>();

/** The trace of a picture, when its run is drawn again. started: is told the job that does it. */
export async function openTrace(picture: string, asked: Asked, started: (job: string) => void): Promise<Trace> {
  const path = { params: { path: { identifier: picture } } };
  const found = await ask(client.POST("/api/pictures/{identifier}/inside", { ...path, body: asked as never }));
  if (!found.ready && found.job) {
    started(found.job.id);
    const ended = await waitFor(found.job.id);
    if (ended.state !== "done") {
      throw new Fault(
        ended.error?.message ?? `The run was not drawn again: it is ${ended.state}.`, ended.error?.remedy ?? "Ask for it again.",
      );
    }
  }
  return ask(client.GET("/api/pictures/{identifier}/inside/{trace}", { params: { path: { identifier: picture, trace: found.trace } } }));
}

/** The job when it has ended: the stream of events tells it, and now and then it is looked at. */
async function waitFor(id: string): Promise<LiveJob> {
  const told = jobs.wait(id);
  told.catch(() => {}); // also told of after it was looked at
  for (;;) {
    const job = await Promise.race([told, new Promise<null>((resolve) => setTimeout(resolve, 1500, null))]);
    if (job) return job;
    const now = await ask(client.GET("/api/jobs/{identifier}", { params: { path: { identifier: id } } }));
    if (!["queued", "running"].includes(now.state)) return now;
  }
}

/** The address of a panel's data, or of its picture. */
export function panelUrl(trace: Trace, panel: PanelName, query: PanelQuery = {}, kind: "json" | "png" = "json"): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined).map(([name, value]) => [name, String(value)]);
  const text = new URLSearchParams(given).toString();
  return `/api/pictures/${trace.picture}/inside/${trace.trace}/${panel}${kind === "png" ? "/png" : ""}${text ? `?${text}` : ""}`;
}

/** A file of the server. Throws a Fault. */
export async function fetchFile(url: string): Promise<Blob> {
  const answer = await session.send(new Request(url)).catch(() => null);
  if (!answer) throw new Fault("The server does not answer.", "Start it again with `fromnoise studio`.");
  if (answer.ok) return answer.blob();
  throw makeFault(answer, await answer.json().catch(() => null));
}

export function readPanel(trace: Trace, panel: PanelName, query: PanelQuery = {}): Promise<PanelData> {
  const url = panelUrl(trace, panel, query);
  let data = remembered.get(url);
  if (!data) {
    if (remembered.size >= KEPT) remembered.delete(remembered.keys().next().value!);
    data = fetchFile(url).then(async (blob) => JSON.parse(await blob.text()) as PanelData);
    data.catch(() => remembered.delete(url));
    remembered.set(url, data);
  }
  return data;
}

/** Saves a file of the server under a name. */
export async function saveFile(url: string, name: string): Promise<void> {
  const address = URL.createObjectURL(await fetchFile(url));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/** Which of its tensors a call has. */
export function hasTensor(call: Call, of: Of): boolean {
  if (!call.kept) return false;
  return of === "eps" ? true : call.rms[of === "guided" ? "guided" : of] !== undefined;
}

/** "up_blocks.0.attentions.1.transformer_blocks.0.attn2" → "up 0.1". */
export function shortenLayer(layer: string): string {
  const numbers = layer.match(/\d+/g) ?? [];
  return `${layer.split("_")[0]} ${numbers.slice(0, layer.startsWith("mid") ? undefined : 2).join(".")}`;
}

export function format(value: number, digits = 4): string {
  if (Math.abs(value) < 1e-9) return "0"; // a rounding error of a time that is 0
  if ((Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) return value.toExponential(2).replace("-", "−");
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}

/** A call, for people: steps are counted from 1. */
export function nameCall(trace: Trace, call: Call): string {
  const many = trace.calls.filter(({ step, part }) => step === call.step && part === call.part).length > 1;
  const parts = trace.calls.some(({ part }) => part > 0);
  return `step ${call.step + 1}${many ? `, question ${call.stage + 1}` : ""}${parts ? `, part ${call.part + 1}` : ""}`;
}
