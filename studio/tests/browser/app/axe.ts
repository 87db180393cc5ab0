/** axe-core in a page whose policy admits no script of a test: it is run as the debugger's own. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "playwright-core";

const SOURCE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

/** The violations of a page, each with the elements that break it. */
export async function findViolations(page: Page): Promise<string[]> {
  await page.evaluate(SOURCE);
  return page.evaluate(async (values) => {
    const { violations } = await (globalThis as any).axe.run(document, { runOnly: { type: "tag", values } }); // eslint-disable-line
    return violations.flatMap((rule: any) => rule.nodes.map((node: any) => `${rule.id}: ${node.html.slice(0, 160)}`)); // eslint-disable-line
  }, RULES);
}
