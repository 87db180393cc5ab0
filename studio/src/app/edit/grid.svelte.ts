/** The grid of this browser: its cells are drawn as jobs of their own, some at a time. It goes on while
 * another view is open, and outlives a reload: what is not yet asked for is written down with what is. */

import { ask, client, Fault, type Picture } from "../api.ts";
import { hasEnded, jobs, type LiveJob } from "../jobs.svelte.ts";
import { makeKey, recall, remember } from "../store.ts";
import { toasts } from "../toasts.svelte.ts";
import type { Body } from "./bodies.ts";

const NAME = "studio.grid";
const TOGETHER = 6; // cells that wait or are drawn at once: others' jobs come in between

export interface Cell {
  body: Body;
  job: string | null;
  key?: string; // of its request: asked for again, after a reload or in another window, it is the same job
  fault: { message: string; remedy: string } | null;
}

export interface GridPlan {
  title: string;
  columns: string[];
  rows: string[];
  sheets: string[];
  axes?: { name: string; values: string }[]; // X, Y, Z; a plan of an earlier version has none
  cells: Cell[]; // sheet by sheet, row by row
  ended: boolean; // nothing more is asked for
}

class Grid {
  plan = $state<GridPlan | null>(null);
  private pumped: GridPlan | null = null; // the plan whose cells are being asked for
  private readonly ids = $derived(new Set(this.plan?.cells.map(({ job }) => job)));

  /** Goes on with it. Its cells' jobs are held until the function that this returns is called. */
  open(): () => void {
    if (!this.plan || this.plan.ended) this.plan = recall<GridPlan | null>(NAME, null); // another window may have a newer one
    const release = jobs.hold((id) => this.ids.has(id));
    void this.find().then(() => this.pump());
    return release;
  }

  get count(): number {
    return this.plan?.cells.length ?? 0;
  }

  get done(): number {
    return this.plan?.cells.filter((cell) => cell.fault || this.isEnded(cell)).length ?? 0;
  }

  get isBusy(): boolean {
    return this.plan !== null && this.plan.cells.some((cell) => !cell.fault && (cell.job ? !this.isEnded(cell) : !this.plan!.ended));
  }

  jobOf(cell: Cell): LiveJob | undefined {
    return cell.job ? jobs.get(cell.job) : undefined;
  }

  private isEnded(cell: Cell): boolean {
    const job = this.jobOf(cell);
    return job !== undefined && hasEnded(job);
  }

  start(plan: GridPlan): void {
    this.plan = { ...plan, cells: plan.cells.map((cell) => ({ ...cell, key: makeKey() })) };
    this.save(); // before anything is sent
    void this.pump();
  }

  async stop(): Promise<void> {
    if (!this.plan) return;
    this.plan.ended = true;
    this.save();
    for (const cell of this.plan.cells) {
      if (cell.job && !cell.fault && !this.isEnded(cell)) await jobs.cancel(cell.job);
    }
  }

  pictureOf(cell: Cell): Picture | undefined {
    const job = this.jobOf(cell);
    return job?.state === "done" ? job.pictures[0] : undefined;
  }

  /** All cells with their labels, as one PNG file; the place of a cell without a picture stays white. */
  async drawSheet(): Promise<Blob> {
    const { columns, rows, sheets, axes = [] } = $state.snapshot(this.plan!);
    const [x, y, z] = [columns, rows, sheets].map((labels, i) => ({ ...axes[i], labels }));
    const pictures = this.plan!.cells.map((cell) => this.pictureOf(cell)?.id ?? null);
    return ask<Blob>(client.POST("/api/sheet", { body: { x, y, z, pictures }, parseAs: "blob" }) as never);
  }

  private save(): void {
    remember(NAME, $state.snapshot(this.plan));
  }

  private async find(): Promise<void> {
    for (const cell of this.plan?.cells ?? []) {
      if (!cell.job || jobs.get(cell.job)) continue;
      try {
        await jobs.read(cell.job);
      } catch (error) {
        if (error instanceof Fault && error.status === 404) cell.fault = { message: "The server no longer knows this cell.", remedy: "Draw the grid again." };
      }
    }
  }

  /** Asks for the cells of the plan that were not asked for yet, some at a time. */
  private async pump(): Promise<void> {
    const { plan } = this;
    if (!plan || plan.ended || this.pumped === plan) return;
    this.pumped = plan;
    const going = new Set<Promise<void>>();
    const follow = (cell: Cell) => {
      const ended: Promise<void> = jobs.wait(cell.job!)
        .catch(({ message, remedy = "" }) => ((cell.fault = { message, remedy }), this.save()))
        .then(() => void going.delete(ended));
      going.add(ended);
    };
    for (const cell of plan.cells) if (cell.job && !cell.fault && !this.isEnded(cell)) follow(cell);
    for (const cell of plan.cells) {
      while (!plan.ended && going.size >= TOGETHER) await Promise.race(going);
      if (plan.ended) break;
      if (cell.job || cell.fault) continue;
      await this.ask(plan, cell);
      if (cell.job) follow(cell);
      this.save();
    }
    plan.ended = true;
    this.save();
  }

  private async ask(plan: GridPlan, cell: Cell): Promise<void> {
    while (!plan.ended) {
      try {
        cell.job = (await jobs.submit("generate", $state.snapshot(cell.body), cell.key)).id;
        if (plan.ended) await jobs.cancel(cell.job).catch((error) => toasts.fail(error)); // it was on its way
        return;
      } catch (error) {
        const fault = error instanceof Fault ? error : new Fault(String(error));
        if (fault.status !== 429) {
          cell.fault = { message: fault.message, remedy: fault.remedy };
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, 1000 * Math.max(fault.retryAfter, 2))); // too many wait
      }
    }
  }
}

export const grid = new Grid();
