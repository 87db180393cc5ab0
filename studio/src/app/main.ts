/** The studio's page: create, gallery, look inside, edit, learn.
 *
 * Where to plug in:
 *   a view               one row of VIEWS in views.ts; its component is loaded when it is first shown
 *                        and gets `id` (what stands after the name: #/inside/ID) and `query`.
 *   an action on a picture   one row of ACTIONS in actions.ts: it appears under every picture.
 *   a request            `ask(client.GET("/api/…"))` of api.ts; the types come from the server's own
 *                        document: `python studio/build/write_api.py` writes generated/api.d.ts.
 *   a job                `jobs.submit(kind, settings)` of jobs.svelte.ts; then watch `jobs.get(id)`.
 *   a message            `toasts.tell(…)`, `toasts.warn(…)`, `toasts.fail(error)`.
 *   a key                `keys.add({ key: "g", label: "Gallery", run })` in an $effect; it returns the
 *                        way to take it away. `?` shows all.
 *   another place        `go("inside", id)`, `href("gallery")` of router.svelte.ts.
 *   a picture            <PictureGrid> of parts/, and `fileUrl(picture)`, `thumbnailUrl(picture)`.
 *
 * The policy admits no inline style: no `style="…"` in markup and no {@html}; `style:name={value}` is
 * fine. Colours and sizes come from style/tokens.css. */

import "../style/tokens.css";
import "../style/base.css";
import "./app.css";
import { mount } from "svelte";
import App from "./App.svelte";

mount(App, { target: document.getElementById("app")! });
