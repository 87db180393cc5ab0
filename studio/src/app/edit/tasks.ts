/** TASKS: what the editor can do with a picture. One row a tab. */

export interface Task {
  id: string; // in the address: ?do=id
  label: string;
  first: string; // the heading while no picture is chosen
  help: string;
  words: boolean; // whether it takes a prompt
}

export const TASKS: readonly Task[] = [
  { id: "inpaint", label: "Paint over", first: "Edit a picture", words: true, help: "Paint what is to be drawn anew. Outside of the paint every pixel stays." },
  { id: "extend", label: "Extend", first: "Extend a picture", words: true, help: "Pull the frame outwards: the picture goes on beyond its edges." },
  { id: "redraw", label: "Redraw", first: "Redraw a picture", words: true, help: "The whole picture is drawn again, starting from itself." },
  { id: "vary", label: "Vary", first: "Vary a picture", words: false, help: "Pictures near to this one, with the same words." },
  { id: "enlarge", label: "Enlarge", first: "Enlarge a picture", words: false, help: "A larger picture: enlarged alone, or drawn again with more detail." },
  { id: "tile", label: "Tile", first: "See a picture tiled", words: false, help: "The picture three times across and down, so that its edges are seen." },
  { id: "blend", label: "Blend", first: "Blend two pictures", words: true, help: "New pictures of what two pictures share." },
  { id: "describe", label: "Describe", first: "Describe a picture", words: false, help: "Words that fit the picture, as the model’s CLIP sees it." },
];

/** The task of an address, or the first one. */
export const findTask = (id: string | null): Task => TASKS.find((task) => task.id === id) ?? TASKS[0];
