/** An explorable in the built site, worked as a reader does: predict, lock, run, save the data. */

import { readFileSync } from "node:fs";
import type { Locator, Page } from "playwright-core";

export class Explorable {
  private constructor(readonly page: Page, readonly frame: Locator) {}

  /** Opens the chapter, and locks a prediction. */
  static async open(page: Page, address: string, chapter: string, id: string): Promise<Explorable> {
    await page.goto(`${address}${chapter}`);
    const island = page.locator(`[data-island="explorable"][data-id="${id}"]`);
    await island.scrollIntoViewIfNeeded();
    const frame = island.locator(".frame");
    const again = frame.getByRole("button", { name: "Begin again" });
    await frame.getByRole("heading", { name: "Predict" }).waitFor();
    if (await again.count()) await again.click(); // the browser remembers an earlier test
    await frame.getByRole("radio").first().check();
    await frame.getByRole("button", { name: "Lock my prediction" }).click();
    return new Explorable(page, frame);
  }

  button(name: string): Locator {
    return this.frame.getByRole("button", { name }).first();
  }

  get status(): Locator {
    return this.frame.locator(".status [role=status]");
  }

  /** Presses a button and waits for the end of what it starts; milliseconds. Fails with the message of
   * an explorable that fails. */
  async run(name: string, most = 240_000): Promise<number> {
    const start = Date.now();
    await this.button(name).click();
    await this.end(most);
    return Date.now() - start;
  }

  async end(most = 240_000): Promise<void> {
    await this.page.waitForTimeout(250); // the frame's busy sign comes after 120 ms
    const alert = this.frame.getByRole("alert");
    const done = this.frame.locator(".status").filter({ hasNot: this.page.getByRole("button") });
    await alert.or(done).first().waitFor({ timeout: most });
    if (await alert.count()) throw new Error(await alert.first().innerText());
  }

  /** What "Save the data" writes. */
  async save(): Promise<any> {
    const [download] = await Promise.all([
      this.page.waitForEvent("download"),
      this.button("Save the data").click(),
    ]);
    return JSON.parse(readFileSync(await download.path(), "utf8"));
  }

  slider(name: string): Locator {
    return this.frame.getByRole("slider", { name });
  }
}
