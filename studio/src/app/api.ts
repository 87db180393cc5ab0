/** The server's API, with the types of its own OpenAPI document. */

import createClient from "openapi-fetch";
import type { components, paths } from "../../generated/api.d.ts";
import { session } from "./session.svelte.ts";

export type Schemas = components["schemas"];
export type Job = Schemas["JobOut"];
export type Picture = Schemas["PictureOut"];
export type Settings = Schemas["GenerateBody"];
type ErrorBody = paths["/api/jobs"]["get"]["responses"][404]["content"]["application/json"];

/** What the server says begins small; a name of a file stays as it is. */
export const capitalise = (text: string) => text.replace(/^[a-z]+(?=[ ,])/, (word) => word[0].toUpperCase() + word.slice(1));

/** What the server refuses or what does not reach it: a message, and what to do about it. */
export class Fault extends Error {
  readonly remedy: string;

  constructor(message: string, remedy = "", readonly status = 0, readonly code = "", readonly retryAfter = 0) {
    super(capitalise(message));
    this.remedy = capitalise(remedy);
  }
}

export const client = createClient<paths>({ baseUrl: location.origin, fetch: (request) => session.send(request) });

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** The data of an answer. Throws a Fault for every other one, and where the server does not answer. */
export async function ask<T>(call: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await call;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Fault("The server does not answer.", "It may have been ended: start it again with `fromnoise studio`.");
  }
  if (answer.response.ok) return answer.data as T;
  throw makeFault(answer.response, answer.error);
}

export function makeFault(response: Response, body: unknown): Fault {
  const error = (body as ErrorBody | undefined)?.error;
  return new Fault(
    error?.message ?? `The server answers ${response.status}.`, error?.remedy ?? "", response.status,
    error?.code ?? "", Number(response.headers.get("retry-after") ?? 0),
  );
}

const PICTURE = /^[0-9a-f]{32}$/; // an id

/** A picture of the gallery. Throws a Fault, also for an address that names none. */
export async function readPicture(id: string): Promise<Picture> {
  const none = new Fault("There is no picture with this address.", "Choose one in the gallery.", 404, "no_picture");
  if (!PICTURE.test(id)) throw none;
  try {
    return await ask(client.GET("/api/pictures/{identifier}", { params: { path: { identifier: id } } }));
  } catch (error) {
    throw error instanceof Fault && error.status === 404 ? none : error;
  }
}

/** Sends a file; the upload's id goes where a request takes a picture. */
export async function upload(file: Blob, name = "picture.png"): Promise<Schemas["UploadOut"]> {
  const body = new FormData();
  body.append("file", file, name);
  return ask(client.POST("/api/uploads", { body: body as never, bodySerializer: (form) => form as never }));
}

export const fileUrl = (picture: Picture): string => picture.file;
export const thumbnailUrl = (picture: Picture): string => picture.thumbnail;

let served: Promise<boolean> | undefined;

/** Whether an image server sent this page. Without one the page draws in the tab. */
export function hasServer(): Promise<boolean> {
  return (served ??= findServer());
}

async function findServer(): Promise<boolean> {
  const [visit] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
  if (visit?.serverTiming?.some(({ name }) => name === "fromnoise")) return true;
  if (!navigator.serviceWorker?.controller && !import.meta.env.DEV) return false;
  // a service worker hands pages on without that header
  const answer = await fetch("healthz").catch(() => null);
  return Boolean(answer?.ok && (await answer.text()) === "ok\n");
}
