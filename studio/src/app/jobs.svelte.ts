/** All jobs of this person, kept up to date by one stream of events.
 *
 * A submission is written down before it is sent, with a key, and sent again until the server has
 * answered: a server that dies in between draws it once. The stream goes on where it broke; where the
 * server no longer knows what came after, the list of jobs says how things are. */

import { SvelteMap } from "svelte/reactivity";
import { ask, client, Fault, type Job } from "./api.ts";
import { session } from "./session.svelte.ts";
import { makeKey, recall, remember } from "./store.ts";
import { toasts } from "./toasts.svelte.ts";

export interface LiveJob extends Job {
  previews?: string[]; // addresses of small pictures, of the newest step; of those that have begun
  secondsLeft?: number;
  sigma?: number;
}

/** What can be asked for; each is a path of POST /api/. */
export type Kind = "generate" | "edit" | "hires" | (string & {});

interface Letter {
  key: string;
  kind: Kind;
  body: unknown;
  sent: number; // when it was written, in milliseconds
}

interface Waiter {
  resolve: (job: LiveJob) => void;
  reject: (fault: unknown) => void;
}

const OUTBOX = "studio.outbox";
const LISTED = 40; // jobs that are read at the start
const KEPT = 40; // jobs that have ended, beside those that somebody holds
const RETRY = 1_000; // milliseconds until the stream is opened again
const QUIET = 5_000; // after which unfinished jobs are looked at again
const HOPELESS = 24 * 3600_000; // a letter of another day is not sent any more

export const hasEnded = (job: Job): boolean => !["queued", "running"].includes(job.state);
/** Whether the server did not answer, or not yet: the same is asked again. */
const isAway = (error: unknown): boolean => error instanceof Fault && (error.status === 0 || error.status === 503);
const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, RETRY));

class Jobs {
  connection = $state<"closed" | "connecting" | "open" | "lost">("closed");
  asked = $state(""); // the id of the job that this page asked for last
  readonly #jobs = new SvelteMap<string, LiveJob>();
  readonly #holders = new Set<(id: string) => boolean>();
  readonly #waiting = new Map<string, Waiter[]>();
  #stream: EventSource | null = null;
  #heard = 0;

  /** Newest first. */
  get list(): LiveJob[] {
    return [...this.#jobs.values()].sort((a, b) => b.number - a.number);
  }

  get unfinished(): LiveJob[] {
    return this.list.filter((job) => !hasEnded(job)).reverse();
  }

  get(id: string): LiveJob | undefined {
    return this.#jobs.get(id);
  }

  /** Keeps the jobs that `wants` names, however many end after them. Returns the way to let them go. */
  hold(wants: (id: string) => boolean): () => void {
    this.#holders.add(wants);
    return () => {
      this.#holders.delete(wants);
      this.#forget();
    };
  }

  /** Forgets the jobs that ended first. Those that are not drawn yet all stay. */
  #forget(): void {
    if (this.#jobs.size <= KEPT) return;
    const isHeld = ({ id }: LiveJob) => [...this.#holders].some((wants) => wants(id));
    const ended = [...this.#jobs.values()].filter((job) => hasEnded(job) && !isHeld(job));
    ended.sort((a, b) => (b.finished ?? b.created) - (a.finished ?? a.created));
    for (const { id } of ended.slice(KEPT)) this.#jobs.delete(id);
  }

  open(): void {
    if (this.connection !== "closed") return;
    this.#connect();
    for (const letter of recall<Letter[]>(OUTBOX, [])) void this.#post(letter).catch((error) => toasts.fail(error));
    setInterval(() => {
      if (Date.now() - this.#heard > QUIET && this.unfinished.length && this.connection === "open") void this.refresh();
    }, QUIET);
  }

  /** Asks for a picture; the job once the server has it. With a key that was sent before: the job of
   * then. Throws a Fault where it is refused. */
  async submit(kind: Kind, body: unknown, key: string = makeKey()): Promise<LiveJob> {
    const letter = { key, kind, body: $state.snapshot(body), sent: Date.now() };
    this.#drop(letter);
    remember(OUTBOX, [...recall<Letter[]>(OUTBOX, []), letter]);
    return this.#post(letter);
  }

  async #post(letter: Letter): Promise<LiveJob> {
    for (;;) {
      try {
        if (Date.now() - letter.sent > HOPELESS) throw new Fault("A request of yesterday was not sent.", "Ask again.", 410);
        const job = await ask<Job>(
          client.POST(`/api/${letter.kind}` as "/api/generate", {
            body: letter.body as never, params: { header: { "idempotency-key": letter.key } },
          }),
        );
        this.#drop(letter);
        this.#put(job);
        this.asked = job.id;
        return this.#jobs.get(job.id)!;
      } catch (error) {
        if (!isAway(error)) {
          this.#drop(letter);
          throw error;
        }
        await pause();
      }
    }
  }

  #drop(letter: Letter): void {
    remember(OUTBOX, recall<Letter[]>(OUTBOX, []).filter(({ key }) => key !== letter.key));
  }

  async cancel(id: string): Promise<void> {
    await this.#take(id, client.DELETE("/api/jobs/{identifier}", { params: { path: { identifier: id } } }));
  }

  /** The job when it has ended. Rejects with a Fault where the server does not have it. */
  wait(id: string): Promise<LiveJob> {
    const job = this.#jobs.get(id);
    if (job && hasEnded(job)) return Promise.resolve(job);
    const ended = new Promise<LiveJob>((resolve, reject) => this.#waiting.set(id, [...(this.#waiting.get(id) ?? []), { resolve, reject }]));
    if (!job) void this.#find(id);
    return ended;
  }

  /** Reads a job that somebody waits for, until the server has answered: it may have ended long ago. */
  async #find(id: string): Promise<void> {
    while (this.#waiting.has(id) && !this.#jobs.has(id)) {
      try {
        await this.read(id);
      } catch (error) {
        if (isAway(error)) await pause();
        else this.#lose(id, error);
      }
    }
  }

  /** Reads a job anew. Only one that is held stays. Throws a Fault. */
  read(id: string): Promise<void> {
    return this.#take(id, client.GET("/api/jobs/{identifier}", { params: { path: { identifier: id } } }));
  }

  /** Takes the server's word on a job, also that there is none. */
  async #take(id: string, call: Parameters<typeof ask<Job>>[0]): Promise<void> {
    try {
      this.#put(await ask(call));
    } catch (error) {
      if (!(error instanceof Fault && error.status === 404)) throw error;
      const gone = new Fault("The server no longer has this job.", "Ask for it again.", 404);
      this.#lose(id, gone);
      throw gone;
    }
  }

  /** Forgets a job that the server does not have, and tells those who wait for it. */
  #lose(id: string, fault: unknown): void {
    const job = this.#jobs.get(id);
    this.#jobs.delete(id);
    if (job && !hasEnded(job)) toasts.fail(fault);
    for (const { reject } of this.#waiting.get(id) ?? []) reject(fault);
    this.#waiting.delete(id);
  }

  /** Reads the list of jobs: the newest, and those that wait. */
  async refresh(): Promise<void> {
    try {
      const [newest, open] = await Promise.all([
        ask(client.GET("/api/jobs", { params: { query: { limit: LISTED } } })),
        ask(client.GET("/api/jobs", { params: { query: { limit: 200, state: ["queued", "running"] } } })),
      ]);
      for (const job of [...newest.jobs, ...open.jobs]) this.#put(job);
      // what is thought unfinished, and is in neither list, has ended long ago
      const known = new Set([...newest.jobs, ...open.jobs].map(({ id }) => id));
      await Promise.allSettled(this.unfinished.filter(({ id }) => !known.has(id)).map(({ id }) => this.read(id)));
      this.#heard = Date.now();
    } catch {
      // the server is away: the stream says so, and asks again
    }
  }

  /** Takes away a picture that was deleted, or puts a changed one in its place. */
  changePicture(id: string, change: (pictures: Job["pictures"]) => Job["pictures"]): void {
    for (const job of this.#jobs.values()) {
      if (job.pictures.some((picture) => picture.id === id)) {
        this.#jobs.set(job.id, { ...job, pictures: change(job.pictures) });
      }
    }
  }

  #put(job: Job): void {
    const before = this.#jobs.get(job.id);
    if (before && hasEnded(before) && !hasEnded(job)) return; // an older answer that came late
    const live: LiveJob = hasEnded(job)
      ? job
      : { ...job, previews: before?.previews, secondsLeft: before?.secondsLeft, step: Math.max(job.step, job.attempts === before?.attempts ? before.step : 0), total: job.total || (before?.total ?? 0) };
    this.#jobs.set(job.id, live);
    if (!hasEnded(job)) return;
    if (before && !hasEnded(before)) this.#tell(live);
    for (const { resolve } of this.#waiting.get(job.id) ?? []) resolve(live);
    this.#waiting.delete(job.id);
    this.#forget();
  }

  #tell(job: LiveJob): void {
    if (job.state === "failed" || job.state === "expired") {
      toasts.fail(new Fault(job.error?.message ?? `The picture was not drawn: ${job.state}.`, job.error?.remedy));
    }
    for (const text of job.warnings) toasts.warn(text);
  }

  #connect(): void {
    this.connection = this.connection === "closed" ? "connecting" : this.connection;
    const stream = new EventSource("/api/events");
    this.#stream = stream;
    stream.onopen = () => (this.connection = "open");
    stream.onerror = () => {
      if (stream.readyState === EventSource.CLOSED && this.#stream === stream) return void this.#reconnect();
      this.connection = "lost"; // it tries again by itself
    };
    for (const name of ["reset", "job", "step", "warning"]) {
      stream.addEventListener(name, (event) => this.#hear(name, event.data));
    }
  }

  /** After an answer that was no stream: the server ends, or wants a token. */
  async #reconnect(): Promise<void> {
    if (await session.look()) await session.wait();
    else {
      this.connection = "lost";
      await pause();
    }
    if (session.may("draw")) this.#connect();
    else this.connection = "closed"; // another token has signed in, and it has no jobs
  }

  #hear(name: string, text: string): void {
    this.#heard = Date.now();
    const data = JSON.parse(text);
    if (name === "reset") return void this.refresh();
    if (name === "job") return void this.#put(data as Job);
    const job = this.#jobs.get(data.job);
    if (!job || hasEnded(job)) return;
    if (name === "step") {
      this.#jobs.set(job.id, {
        ...job, state: "running", ahead: 0, step: data.step, total: data.total, sigma: data.sigma,
        secondsLeft: data.seconds_left, previews: data.previews ?? job.previews,
      });
    }
  }
}

export const jobs = new Jobs();
