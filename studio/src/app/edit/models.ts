/** What the server says of its models and upscalers, asked once. */

import { ask, client } from "../api.ts";

const USUAL = 64; // pixels that sides are multiples of, for a model that is not loaded yet

export interface Drawing {
  multiple: number;
  isKnown: boolean; // false: the model is not loaded, and the server may round up
}

/** What the sides of a model's pictures are multiples of. name: "": the server's first model. */
export async function findMultiple(name: string): Promise<Drawing> {
  const models = await ask(client.GET("/api/models"));
  const model = models.find((one) => one.name === name) ?? models[0];
  return model?.multiple ? { multiple: model.multiple, isKnown: true } : { multiple: USUAL, isKnown: false };
}

/** The names of ways to enlarge. */
export async function listUpscalers(): Promise<{ name: string; label: string }[]> {
  const found = await ask(client.GET("/api/samplers"));
  return (found.upscalers ?? []) as { name: string; label: string }[];
}
