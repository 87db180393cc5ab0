/** One request after the other, as a panel shows it: sent, drawn, done, or what went wrong. */

import { Fault } from "../api.ts";
import { hasEnded, jobs, type LiveJob } from "../jobs.svelte.ts";
import { recall, remember } from "../store.ts";
import type { Asked } from "./bodies.ts";

const NAME = "studio.runs";
const MOST = 40; // panels whose last job is remembered

export class Run {
  sending = $state(false);
  fault = $state.raw<Fault | null>(null);
  private id = $state<string | null>(null);

  /** Of a component. key: of what its panel shows, so that a reload finds the last job again. */
  constructor(private readonly key: string) {
    const release = jobs.hold((id) => id === this.id);
    $effect(() => release);
    this.id = recall<Record<string, string>>(NAME, {})[key] ?? null;
  }

  get job(): LiveJob | null {
    return this.id ? (jobs.get(this.id) ?? null) : null;
  }

  get isBusy(): boolean {
    return this.sending || (this.job !== null && !hasEnded(this.job));
  }

  /** What stands in the way of a picture: a refusal, or a job that failed. */
  get failure(): Fault | null {
    if (this.fault) return this.fault;
    const { job } = this;
    if (job?.state === "failed" || job?.state === "expired") {
      return new Fault(job.error?.message ?? "The job was not drawn in its time.", job.error?.remedy ?? "Ask again.");
    }
    return null;
  }

  /** Sends a request and follows it to its end; the job, or null where it was refused. */
  async start(make: () => Promise<Asked>): Promise<LiveJob | null> {
    if (this.isBusy) return null;
    this.sending = true;
    this.fault = null;
    try {
      const { kind, body } = await make();
      const job = await jobs.submit(kind, body);
      this.id = job.id;
      const rest = Object.entries(recall<Record<string, string>>(NAME, {})).filter(([key]) => key !== this.key);
      remember(NAME, Object.fromEntries([...rest, [this.key, job.id]].slice(-MOST)));
      this.sending = false;
      return await jobs.wait(job.id);
    } catch (error) {
      this.fault = error instanceof Fault ? error : new Fault(error instanceof Error ? error.message : String(error));
      return null;
    } finally {
      this.sending = false;
    }
  }

  async cancel(): Promise<void> {
    if (!this.id) return;
    try {
      await jobs.cancel(this.id);
    } catch (error) {
      this.fault = error instanceof Fault ? error : new Fault(String(error));
    }
  }
}
