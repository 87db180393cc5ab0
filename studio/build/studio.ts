/** The Vite plugin of the studio's page: its policy, and while developing the server behind it. */

import type { HtmlTagDescriptor, Plugin, Rolldown } from "vite";

/** As strict as serve/page.py sends it; here for a host without that server. The two must agree:
 * a test compares them. Workers have the policy of their own files. */
export const STUDIO_POLICY = [
  "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data: blob:",
  "media-src 'self' blob:", "font-src 'self'", "connect-src 'self'", "worker-src 'self'",
  "base-uri 'none'", "form-action 'none'",
].join("; ");

const FIRST = "/app/create/Create.svelte"; // the view that most visits begin with

/** Links to the files of the first view: they are read while the page's own script still runs. Its
 * styles are real ones, because a browser warns of hints that another view does not use. */
function linkFirstView(html: string, bundle: Rolldown.OutputBundle): HtmlTagDescriptor[] {
  const chunks = Object.values(bundle).filter((file) => file.type === "chunk");
  const first = chunks.find(({ facadeModuleId }) => facadeModuleId?.endsWith(FIRST));
  if (!first) throw new Error(`No file of the bundle begins with ${FIRST}: name the first view in build/studio.ts.`);
  const needed = [first, ...chunks.filter(({ fileName }) => first.imports.includes(fileName))];
  const links = needed.flatMap(({ fileName, viteMetadata }) => [
    { rel: "modulepreload", href: `./${fileName}` },
    ...[...(viteMetadata?.importedCss ?? [])].map((style) => ({ rel: "stylesheet", href: `./${style}` })),
  ]);
  return links
    .filter(({ href }) => !html.includes(href))
    .map((attrs) => ({ tag: "link", attrs: { ...attrs, crossorigin: true }, injectTo: "head" as const }));
}

export function studio(): Plugin {
  return {
    name: "fromnoise-studio",
    apply: "build", // Vite's own client writes styles into the page
    transformIndexHtml: (html, { bundle }) => ({
      html: html.replace(
        '<meta charset="utf-8">',
        `<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="${STUDIO_POLICY}">`,
      ),
      tags: linkFirstView(html, bundle!),
    }),
  };
}
