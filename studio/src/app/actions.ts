/** ACTIONS: the registry of what can be done with a picture. One row an action. */

import { ask, client, fileUrl, type Picture } from "./api.ts";
import { jobs } from "./jobs.svelte.ts";
import { go } from "./router.svelte.ts";
import { session } from "./session.svelte.ts";
import { toasts } from "./toasts.svelte.ts";

export interface Action {
  id: string;
  label: string;
  key?: string; // acts while the picture is open
  main?: boolean; // stands also under small pictures
  when?: (picture: Picture) => boolean;
  run: (picture: Picture) => void | Promise<void>;
}

const draws = () => session.may("draw");
const sorts = () => session.may("gallery");

const path = (picture: Picture) => ({ params: { path: { identifier: picture.id } } });

export async function setFavourite(picture: Picture, favourite: boolean): Promise<Picture> {
  const changed = await ask(client.PATCH("/api/pictures/{identifier}", { ...path(picture), body: { favourite } }));
  jobs.changePicture(picture.id, (pictures) => pictures.map((one) => (one.id === changed.id ? changed : one)));
  dispatchEvent(new CustomEvent("fromnoise:picture", { detail: changed }));
  return changed;
}

/** Deletes; the message lets it be undone. */
export async function deletePicture(picture: Picture): Promise<void> {
  await ask(client.DELETE("/api/pictures/{identifier}", path(picture)));
  jobs.changePicture(picture.id, (pictures) => pictures.filter(({ id }) => id !== picture.id));
  dispatchEvent(new CustomEvent("fromnoise:deleted", { detail: picture }));
  const undo = async () => {
    try {
      const back = await ask(client.POST("/api/pictures/{identifier}/restore", path(picture)));
      dispatchEvent(new CustomEvent("fromnoise:restored", { detail: back }));
      if (draws()) await jobs.refresh();
    } catch (error) {
      toasts.fail(error);
    }
  };
  toasts.tell("The picture is deleted.", { label: "Undo", run: () => void undo() }, 20);
}

export function download(picture: Picture): void {
  const link = document.createElement("a");
  link.href = fileUrl(picture);
  link.download = `${picture.seed}-${picture.hash.slice(0, 8)}.png`;
  link.click();
}

const openEditor = (task: string) => (picture: Picture) => go("edit", picture.id, new URLSearchParams({ do: task }));

export const ACTIONS: Action[] = [
  {
    id: "reuse", label: "Use its settings", key: "r", main: true, when: draws,
    run: (picture) => go("create", "", new URLSearchParams({ from: picture.id })),
  },
  { id: "vary", label: "Vary", key: "v", main: true, when: draws, run: async (picture) => (await import("./edit/actions.ts")).vary(picture) },
  { id: "edit", label: "Edit", key: "e", main: true, when: draws, run: (picture) => go("edit", picture.id) },
  { id: "enlarge", label: "Enlarge", key: "u", main: true, when: draws, run: openEditor("enlarge") },
  { id: "compare", label: "Compare", when: sorts, run: (picture) => go("compare", picture.id) },
  { id: "blend", label: "Blend", when: draws, run: openEditor("blend") },
  { id: "describe", label: "Describe", when: draws, run: openEditor("describe") },
  { id: "inside", label: "Look inside", key: "i", when: ({ seed }) => seed !== "" && draws() && sorts(), run: (picture) => go("inside", picture.id) },
  { id: "download", label: "Download", key: "d", run: download },
  { id: "delete", label: "Delete", key: "Delete", when: sorts, run: deletePicture },
];
