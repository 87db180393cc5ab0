/** The Vite plugin of the studio's page: its policy, and while developing the server behind it. */

import type { Plugin } from "vite";

/** As strict as serve/page.py sends it; here for a host without that server. The two must agree:
 * a test compares them. Workers have the policy of their own files. */
export const STUDIO_POLICY = [
  "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data: blob:",
  "media-src 'self' blob:", "font-src 'self'", "connect-src 'self'", "worker-src 'self'",
  "base-uri 'none'", "form-action 'none'",
].join("; ");

export function studio(): Plugin {
  return {
    name: "fromnoise-studio",
    apply: "build", // Vite's own client writes styles into the page
    transformIndexHtml: (html) => html.replace(
      '<meta charset="utf-8">',
      `<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="${STUDIO_POLICY}">`,
    ),
  };
}
