/** What the server has to choose from: models, samplers, add-ons, and what a model is drawn with. */

import type { paths } from "../../../generated/api.d.ts";
import { ask, client, hasServer, type Schemas } from "../api.ts";
import { toasts } from "../toasts.svelte.ts";

export type Model = paths["/api/models"]["get"]["responses"][200]["content"]["application/json"][number];
interface Named {
  name: string;
  label: string;
}

class Known {
  models = $state.raw<Model[]>([]);
  samplers = $state.raw<Named[]>([]);
  spacings = $state.raw<Named[]>([]);
  addons = $state.raw<Schemas["AddonOut"][]>([]);
  defaults = $state.raw<Schemas["DefaultsOut"] | null>(null);
  #asked = false;
  #turn = 0;

  async read(): Promise<void> {
    if (this.#asked) return;
    this.#asked = true;
    try {
      if (!(await hasServer())) return void (await this.#readTab());
      const [models, choices] = await Promise.all([
        ask(client.GET("/api/models")), ask(client.GET("/api/samplers")), this.readAddons(),
      ]);
      const named = (rows: Record<string, unknown>[] = []) =>
        rows.map(({ name, label }) => ({ name: String(name), label: String(label ?? name) }));
      this.models = models;
      this.samplers = named(choices.samplers);
      this.spacings = named(choices.spacings);
    } catch (error) {
      this.#asked = false;
      toasts.fail(error);
    }
  }

  async #readTab(): Promise<void> {
    const { samplers, spacings, defaults } = await (await import("./tab.ts")).readChoices();
    [this.samplers, this.spacings] = [samplers, spacings];
    this.defaults = { loaded: true, presets: {}, ...defaults };
  }

  async readAddons(): Promise<void> {
    this.addons = await ask(client.GET("/api/addons"));
  }

  async readDefaults(model: string): Promise<void> {
    const turn = ++this.#turn;
    if (!(await hasServer())) return;
    const found = await ask(client.GET("/api/defaults", { params: { query: model ? { model } : {} } })).catch(() => null); // the fields then say "auto"
    if (turn === this.#turn) this.defaults = found; // another model may have been chosen meanwhile
  }
}

export const known = new Known();
