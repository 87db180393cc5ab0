/** How a picture lies in the part of the window that shows it: moved and enlarged. */

export interface View {
  scale: number; // CSS pixels a pixel of the picture
  x: number; // where the picture's corner lies, in CSS pixels
  y: number;
}

export interface Size {
  width: number;
  height: number;
}

export interface Point {
  x: number;
  y: number;
}

const CLOSEST = 64; // CSS pixels a pixel of the picture
const SHOWN = 48; // CSS pixels of the picture that never leave the window

/** The whole of a picture in the middle of the room for it, with `edge` CSS pixels around. */
export function fit(picture: Size, room: Size, edge = 12): View {
  const scale = Math.max(Math.min((room.width - 2 * edge) / picture.width, (room.height - 2 * edge) / picture.height), 0.01);
  return { scale, x: (room.width - picture.width * scale) / 2, y: (room.height - picture.height * scale) / 2 };
}

/** Enlarged by a factor around a place of the room, which stays where it is. */
export function zoom(view: View, factor: number, at: Point, picture: Size, room: Size): View {
  const least = Math.min(fit(picture, room).scale / 2, 1);
  const scale = Math.min(Math.max(view.scale * factor, least), CLOSEST);
  const by = scale / view.scale;
  return hold({ scale, x: at.x - (at.x - view.x) * by, y: at.y - (at.y - view.y) * by }, picture, room);
}

/** Moved, but not out of the room. */
export function pan(view: View, dx: number, dy: number, picture: Size, room: Size): View {
  return hold({ ...view, x: view.x + dx, y: view.y + dy }, picture, room);
}

function hold(view: View, picture: Size, room: Size): View {
  const keep = (place: number, side: number, most: number) => {
    const shown = Math.min(SHOWN, side, most);
    return Math.min(Math.max(place, shown - side), most - shown);
  };
  return {
    scale: view.scale,
    x: keep(view.x, picture.width * view.scale, room.width),
    y: keep(view.y, picture.height * view.scale, room.height),
  };
}

/** A place of the room in pixels of the picture. */
export function locate(view: View, at: Point): Point {
  return { x: (at.x - view.x) / view.scale, y: (at.y - view.y) / view.scale };
}

/** How a turn of the wheel changes the size. */
export function readWheel(event: WheelEvent): number {
  const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1);
  return Math.exp(-Math.min(Math.max(pixels, -200), 200) * (event.ctrlKey ? 0.01 : 0.002));
}
