/** Which view is shown: the part of the address after #, as in #/inside/ID or #/create?prompt=cat. */

export interface Place {
  name: string;
  id: string; // "" where the view shows no single thing
  query: URLSearchParams;
}

export const HOME = "create";

export function readPlace(hash: string): Place {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [name, ...rest] = path.split("/");
  let id = rest.join("/");
  try {
    id = decodeURIComponent(id);
  } catch {
    // a broken escape: taken as it stands
  }
  return { name: name || HOME, id, query: new URLSearchParams(query) };
}

export function href(name: string, id = "", query?: URLSearchParams): string {
  const text = query?.toString() ?? "";
  return `#/${name}${id ? `/${encodeURIComponent(id)}` : ""}${text ? `?${text}` : ""}`;
}

let hash = location.hash; // of the place
let place = $state.raw(readPlace(hash));
addEventListener("hashchange", () => {
  hash = location.hash;
  place = readPlace(hash);
});

export const router = {
  get place(): Place {
    return place;
  },
};

export function go(name: string, id = "", query?: URLSearchParams): void {
  location.hash = href(name, id, query);
}

/** Changes the address of a view without a step in the history: for what is being typed. Does nothing
 * where the address leads elsewhere already. */
export function replaceQuery(name: string, query: URLSearchParams): void {
  if (location.hash !== hash || place.name !== name) return;
  const next = href(place.name, place.id, query);
  if (next === hash) return;
  history.replaceState(history.state, "", next);
  hash = location.hash;
  place = readPlace(hash);
}
