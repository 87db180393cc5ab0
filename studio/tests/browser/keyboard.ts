/** A reader without a mouse: where the focus is, and the keys to another place. Each stop must be seen,
 * and nothing may lie on it. */

import type { Locator, Page } from "playwright-core";

export interface Stop {
  what: string; // as a message shows it
  fault: string; // "" if the focus is seen there
  box: [number, number, number, number]; // left, top, right, bottom in the page
  inNav?: boolean; // whether it lies in a list of links beside the text
}

/** Functions that are put into the page. */
interface Tools {
  list(part: Element): HTMLElement[]; // what Tab comes to, in the order of the document
  describe(one: Element): string;
  look(): Stop; // where the focus is
}

function install(): void {
  const list = (part: Element) => {
    const all = [...part.querySelectorAll<HTMLElement>(
      "a[href], button, input, select, textarea, summary, [contenteditable=true], [tabindex]")];
    return all.filter((one) => {
      const visible = one.checkVisibility({ visibilityProperty: true });
      if (one.tabIndex < 0 || !visible || one.matches(":disabled")) return false;
      if (one.matches("input[type=radio]")) { // a group has one stop
        const group = all.filter((other) => other.matches("input[type=radio]") && (other as any).name === (one as any).name);
        if ((group.find((other) => (other as any).checked) ?? group[0]) !== one) return false;
      }
      return one.matches("details > summary") || !one.parentElement!.closest("details:not([open])");
    });
  };
  const describe = (one: Element) => {
    const name = one.ariaLabel || (one as any).labels?.[0]?.textContent || one.textContent || one.id;
    return `${one.tagName.toLowerCase()} “${name.trim().replace(/\s+/g, " ").slice(0, 60)}”`;
  };
  const look = () => {
    const one = document.activeElement as HTMLElement;
    const holder = one.closest<HTMLElement>("label, .editor") ?? one; // some draw the ring around it
    const isSeen = [one, holder, holder.closest(".option") ?? one, ...holder.querySelectorAll("span")].some((each) => {
      const { boxShadow, outlineStyle, outlineColor } = getComputedStyle(each);
      return boxShadow !== "none" || (outlineStyle !== "none" && outlineColor !== "rgba(0, 0, 0, 0)");
    });
    const shown = one.clientWidth === 1 ? holder : one; // a hidden input has a visible label
    const { left, top, right, bottom } = shown.getBoundingClientRect();
    const between = (low: number, high: number, most: number, share: number) => {
      const [from, to] = [Math.max(low, 0), Math.min(high, most)];
      return from + (to - from) * share;
    };
    const covers = [0.1, 0.3, 0.5, 0.7, 0.9].map((share) =>
      document.elementFromPoint(between(left, right, innerWidth, 0.5), between(top, bottom, innerHeight, share))!);
    const isFree = (above: Element) =>
      !above || shown.contains(above) || above.contains(shown) || (one as any).labels?.[0]?.contains(above);
    let fault = "";
    if (one === document.body) fault = "no element has the focus";
    else if (!isSeen) fault = "the focus is not seen";
    else if (bottom <= 0 || top >= innerHeight || right <= 0 || left >= innerWidth) fault = "it is outside of the window";
    else if (!covers.some(isFree)) fault = `this lies on it: ${covers[2].outerHTML.slice(0, 100)}`;
    // what floats over the page has no place in it
    const shift = one.closest(".opener") ? NaN : scrollY;
    return { what: describe(one), fault, box: [left, top + shift, right, bottom + shift] };
  };
  Object.assign(window, { keyboard: { list, describe, look } });
}

export class Keyboard {
  readonly faults: string[] = [];

  private constructor(readonly page: Page) {}

  /** Before the page is opened. */
  static async of(page: Page): Promise<Keyboard> {
    await page.addInitScript(install);
    return new Keyboard(page);
  }

  async press(...keys: string[]): Promise<void> {
    for (const key of keys) await this.page.keyboard.press(key);
  }

  async stop(): Promise<Stop> {
    // A page that scrolls to the focus needs frames for it, a busy machine more than one. What is
    // wrong for good is so after 60 frames too.
    const stop = await this.page.evaluate(async () => {
      let stop: Stop;
      let frames = 0;
      do {
        await new Promise(requestAnimationFrame);
        stop = (window as any).keyboard.look();
      } while (stop.fault && ++frames < 60);
      return stop;
    });
    stop.inNav = await this.page.evaluate(() => Boolean(document.activeElement?.closest("nav")));
    if (stop.fault) this.faults.push(`${stop.what}: ${stop.fault}`);
    return stop;
  }

  has(target: Locator): Promise<boolean> {
    return target.evaluate((element) => element === document.activeElement, undefined, { timeout: 10_000 });
  }

  /** Presses Tab until the target has the focus. Throws where it never comes there. */
  async reach(target: Locator, key = "Tab", most = 250): Promise<void> {
    await target.waitFor();
    const path: string[] = [];
    for (let i = 0; i < most; i++) {
      if (await this.has(target)) return void (await this.stop());
      await this.press(key);
      path.push((await this.stop()).what);
    }
    throw new Error(`${key} does not reach ${target}: ${path.slice(-12).join(" → ")}`);
  }

  /** Walks through a part by Tab, from the stop before it to the first behind it, and back by
   * Shift+Tab. Gives what was wrong: stops that never came, came in another order or were not seen. */
  async walk(part: Locator): Promise<string[]> {
    const wanted = await part.evaluate((element) => {
      const { list, describe } = (window as any).keyboard as Tools;
      list(element)[0].focus();
      return list(element).map(describe);
    });
    await this.press("Shift+Tab");
    const isPage = await part.evaluate((element) => element === document.body);
    const inside = () => part.evaluate((element) => element.contains(document.activeElement) && document.activeElement !== element);
    const faults: string[] = [];
    for (const key of ["Tab", "Shift+Tab"]) {
      const stops: Stop[] = [];
      if (!isPage || key === "Tab") await this.press(key); // on a page it turns back at its last stop
      while (stops.length < wanted.length && (await inside())) {
        stops.push(await this.stop());
        if (!isPage || stops.length < wanted.length) await this.press(key);
      }
      if (!isPage && (await inside())) faults.push(`${key} does not leave behind ${stops.at(-1)?.what}`);
      const came = stops.map((stop) => stop.what);
      const order = key === "Tab" ? wanted : [...wanted].reverse();
      if (came.join("\n") !== order.join("\n")) faults.push(`${key} comes to\n  ${came.join("\n  ")}\nand not to\n  ${order.join("\n  ")}`);
      if (key === "Tab") {
        stops.slice(1).forEach((stop, i) => { // down, or to the right
          const before = stops[i];
          if (before.inNav && !stop.inNav) return; // from the list beside the text to its beginning
          if (stop.box[1] < before.box[1] - 40 && stop.box[0] < before.box[2] - 40) faults.push(`${before.what} → ${stop.what} goes back`);
        });
      }
    }
    return faults;
  }
}
