/** The frame around a picture that is drawn larger: how far each side goes, in steps that the model can
 * draw. */

import type { Size } from "./view.ts";

export const SIDES = ["left", "top", "right", "bottom"] as const;
export type Side = (typeof SIDES)[number];
export type Extension = Record<Side, number>; // pixels beyond each side of the picture

export const NO_EXTENSION: Extension = { left: 0, top: 0, right: 0, bottom: 0 };
const FARTHEST = 4096; // as the server's field says

const OPPOSITE: Record<Side, Side> = { left: "right", right: "left", top: "bottom", bottom: "top" };

function lengthOf(picture: Size, side: Side): number {
  return side === "left" || side === "right" ? picture.width : picture.height;
}

/** With one side at the nearest place to `asked` pixels where the whole is a multiple of `multiple`;
 * the other sides stay. Nothing is added where the place is nearer to the picture's own edge. */
export function extend(extension: Extension, side: Side, asked: number, picture: Size, multiple: number): Extension {
  const rest = lengthOf(picture, side) + extension[OPPOSITE[side]];
  const least = (multiple - (rest % multiple)) % multiple; // the smallest that makes it whole
  if (extension[OPPOSITE[side]] === 0 && asked < (least || multiple) / 2) return { ...extension, [side]: 0 };
  const most = least + Math.floor((FARTHEST - least) / multiple) * multiple;
  const near = least + Math.round((asked - least) / multiple) * multiple;
  return { ...extension, [side]: Math.min(Math.max(near, least), most) };
}

/** One step of the keyboard: to the next place outwards (1) or inwards (−1). */
export function step(extension: Extension, side: Side, way: 1 | -1, picture: Size, multiple: number): Extension {
  const moved = extend(extension, side, extension[side] + way * multiple, picture, multiple);
  return moved[side] === extension[side] ? extend(extension, side, extension[side] + way * multiple * 0.51, picture, multiple) : moved;
}

/** The size of the whole. */
export function sizeOf(picture: Size, extension: Extension): Size {
  return {
    width: picture.width + extension.left + extension.right,
    height: picture.height + extension.top + extension.bottom,
  };
}

export function isExtended(extension: Extension): boolean {
  return SIDES.some((side) => extension[side] > 0);
}
