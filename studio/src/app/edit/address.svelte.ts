/** The picture that the address of a view names. */

import type { Picture } from "../api.ts";
import { toasts } from "../toasts.svelte.ts";
import { openPicture } from "./source.ts";

/** Of a component: calls `take` for each picture that the address comes to name. */
export function takePicture(readId: () => string, take: (picture: Picture) => void): void {
  let taken = "";
  $effect(() => {
    const id = readId();
    if (!id || taken === id) return;
    taken = id;
    openPicture(id).then(({ picture }) => take(picture!), (error) => toasts.fail(error));
  });
}
