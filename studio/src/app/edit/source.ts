/** The picture that an edit starts from: one of the gallery, or a file of the person's own. */

import { ask, client, Fault, fileUrl, readPicture, upload, type Job, type Picture } from "../api.ts";
import { tellWords } from "./bodies.ts";
import { makeKey, spell } from "../store.ts";
import { keepFile, recallFile } from "./keeping.ts";
import type { Size } from "./view.ts";

export interface Source extends Size {
  key: string; // the same for the same pixels: the hash of the file
  src: string;
  label: string;
  picture: Picture | null; // null: a file
  file: Blob | null; // null: a picture of the gallery
  job: Job | null; // that drew it, if the server still knows
}

const uploads = new Map<string, string>(); // key → the upload's id

/** A picture of the gallery. Throws a Fault. */
export async function openPicture(id: string): Promise<Source> {
  const picture = await readPicture(id);
  let job: Job | null = null;
  try {
    job = await ask(client.GET("/api/jobs/{identifier}", { params: { path: { identifier: picture.job } } }));
  } catch (error) {
    if (!(error instanceof Fault && error.status === 404)) throw error; // its record has been tidied away
  }
  const words = tellWords(picture.settings) || `picture ${picture.number}`;
  return { key: picture.hash, src: fileUrl(picture), label: words, width: picture.width, height: picture.height, picture, job, file: null };
}

/** A file of the person's own; it outlives a reload under its key. Its address holds the file in memory
 * until `closeSource`. Throws a Fault. */
export async function openFile(file: Blob, name: string): Promise<Source> {
  const image = await createImageBitmap(file).catch(() => {
    throw new Fault(`${name} is no picture that the browser can read.`, "Give a PNG, JPEG or WebP file.");
  });
  const { width, height } = image;
  image.close();
  // crypto.subtle is missing where the page comes without TLS from another machine: then each opening is new
  const key = crypto.subtle ? spell(await crypto.subtle.digest("SHA-256", await file.arrayBuffer())) : makeKey();
  await keepFile(key, { name, file }).catch(() => undefined); // no database: a reload asks for it again
  return { key, src: URL.createObjectURL(file), label: name, width, height, picture: null, job: null, file };
}

/** A file that was opened before a reload. Throws a Fault where the browser has forgotten it. */
export async function reopenFile(key: string): Promise<Source> {
  const kept = await recallFile(key).catch(() => null);
  if (!kept) throw new Fault("The browser no longer has this file.", "Open it again.");
  return openFile(kept.file, kept.name);
}

/** Lets a source go that is shown no more. */
export function closeSource({ src, file }: Source): void {
  if (file) URL.revokeObjectURL(src);
}

/** The id of an upload of a source: the file is sent once, and again when the server has forgotten it. */
export async function uploadSource(source: Source): Promise<string> {
  const known = uploads.get(source.key);
  if (known) {
    try {
      return (await ask(client.GET("/api/uploads/{identifier}", { params: { path: { identifier: known } } }))).id;
    } catch (error) {
      if (!(error instanceof Fault && error.status === 404)) throw error;
    }
  }
  const sent = await upload(source.file ?? (await fetchFile(source)), "picture.png");
  uploads.set(source.key, sent.id);
  return sent.id;
}

async function fetchFile(source: Source): Promise<Blob> {
  const answer = await client.GET("/api/pictures/{identifier}/file", {
    params: { path: { identifier: source.picture!.id } }, parseAs: "blob",
  });
  return ask(Promise.resolve(answer)) as Promise<unknown> as Promise<Blob>;
}
