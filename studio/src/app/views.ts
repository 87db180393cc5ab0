/** VIEWS: the registry of what the page can show. One row a view. */

import type { Component } from "svelte";

export interface ViewProps {
  id: string;
  query: URLSearchParams;
}

export interface View {
  name: string; // in the address: #/name
  title: string;
  key?: string; // the shortcut that goes there; only views with one are in the menu
  server?: boolean; // it needs the server
  load: () => Promise<{ default: Component<any> }>; // it takes ViewProps, or nothing
}

export const VIEWS: View[] = [
  { name: "create", title: "Create", key: "c", load: () => import("./create/Create.svelte") },
  { name: "gallery", title: "Gallery", key: "g", server: true, load: () => import("./gallery/Gallery.svelte") },
  { name: "edit", title: "Edit", key: "e", server: true, load: () => import("./edit/Edit.svelte") },
  { name: "grid", title: "Grid", key: "x", server: true, load: () => import("./edit/GridPage.svelte") },
  { name: "film", title: "Film", key: "f", server: true, load: () => import("./edit/FilmPage.svelte") },
  { name: "compare", title: "Compare", server: true, load: () => import("./edit/ComparePage.svelte") },
  { name: "inside", title: "Look inside", server: true, load: () => import("./inside/Inside.svelte") },
  { name: "learn", title: "Learn", key: "l", load: () => import("./learn/Learn.svelte") },
];
