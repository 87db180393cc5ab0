/** Pictures from outside: the given ones, and files of the reader's own. They never leave the tab. */
import type { Picture } from "../engine/types.ts";
import boot from "../given/boot.webp";
import flamingo from "../given/flamingo.webp";
import octopus from "../given/octopus.webp";
import turtle from "../given/turtle.webp";
import unicorn from "../given/unicorn.webp";
import whale from "../given/whale.webp";

export interface Given {
  name: string;
  url: string;
  caption: string;
}

/** Pictures that no training saw, drawn by the source of stickers (build/write_given.py). */
export const GIVEN: Given[] = [
  { name: "unicorn", url: unicorn, caption: "a large unicorn at sunset" },
  { name: "octopus", url: octopus, caption: "an octopus underwater" },
  { name: "flamingo", url: flamingo, caption: "a flamingo in a cloudy sky" },
  { name: "turtle", url: turtle, caption: "a sketch of a turtle in space" },
  { name: "boot", url: boot, caption: "a red neon boot in the desert" },
  { name: "whale", url: whale, caption: "a white pixel art whale underwater" },
];

const SIDE = 128; // pixels of the model's pictures
const MOST_BYTES = 20_000_000;
const MOST_PIXELS = 50_000_000;
const LONGEST_NAME = 60; // characters of a file's name that a message shows
export const TYPES = ["image/png", "image/jpeg", "image/webp"];

export async function readGiven({ url }: Given, signal?: AbortSignal): Promise<Picture> {
  const answer = await fetch(url, { signal });
  if (!answer.ok) throw new Error(`A given picture could not be loaded (${answer.status}). Reload the page.`);
  return fit(await createImageBitmap(await answer.blob(), { colorSpaceConversion: "none" }));
}

/** The middle square of a picture file, in the model's own size. Its size is checked before its pixels
 * are read: a small file may claim to hold billions of them. */
export async function readUpload(file: File): Promise<Picture> {
  const name = file.name.length > LONGEST_NAME ? `${file.name.slice(0, LONGEST_NAME)} …` : file.name;
  if (!TYPES.includes(file.type)) {
    throw new Error(`${name} is no PNG, JPEG or WebP file. Choose one of these.`);
  }
  if (file.size > MOST_BYTES) {
    throw new Error(`${name} has ${Math.round(file.size / 1e6)} MB. Choose a file of at most 20 MB.`);
  }
  const damaged = `${name} cannot be read as a picture. It may be damaged: choose another file.`;
  const pixels = await countPixels(file);
  if (!pixels) throw new Error(damaged);
  if (pixels > MOST_PIXELS) throw new Error(`${name} has more than 50 million pixels. Make it smaller first.`);
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) throw new Error(damaged);
  return fit(bitmap);
}

/** Width times height, from the head of a picture file; 0 where it is none. */
async function countPixels(file: File): Promise<number> {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await new Promise((load, fail) => ([image.onload, image.onerror] = [load, fail]));
    return image.naturalWidth * image.naturalHeight;
  } catch {
    return 0;
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

function fit(bitmap: ImageBitmap): Picture {
  const canvas = new OffscreenCanvas(SIDE, SIDE);
  const pen = canvas.getContext("2d", { willReadFrequently: true })!;
  pen.fillStyle = "white"; // behind what is transparent
  pen.fillRect(0, 0, SIDE, SIDE);
  pen.imageSmoothingQuality = "high";
  const side = Math.min(bitmap.width, bitmap.height);
  const [left, top] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
  pen.drawImage(bitmap, left, top, side, side, 0, 0, SIDE, SIDE);
  bitmap.close();
  return { width: SIDE, height: SIDE, pixels: pen.getImageData(0, 0, SIDE, SIDE).data };
}
