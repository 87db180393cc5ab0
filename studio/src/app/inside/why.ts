/** "Why?": the address of the mentor, with a question and with what the person looks at. The mentor
 * is a page of the course: its Python needs what the studio's own policy forbids. */

import { siteUrl } from "../../ui/links.ts";

/** Panel → the explorable of the course that lets one try the same. */
const COURSE: Record<string, string> = {
  sigmas: "schedules", norms: "destroy", guidance: "guidance-plane", latents: "latent-lab",
  frame: "one-look", words: "word-lens", map: "word-lens", difference: "word-lens",
};

export function whyUrl(question: string, panel: string, title: string, picture: string): string {
  const query = new URLSearchParams({ ask: question, about: COURSE[panel] ?? "", title, picture });
  return siteUrl(`mentor.html?${query}`);
}
