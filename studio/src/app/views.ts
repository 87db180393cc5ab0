/** VIEWS: the registry of what the page can show. One row a view. */

import type { Component } from "svelte";
import type { Scope } from "./session.svelte.ts";

export interface ViewProps {
  id: string;
  query: URLSearchParams;
}

export interface View {
  name: string; // in the address: #/name
  title: string;
  key?: string; // the shortcut that goes there; only views with one are in the menu
  server?: boolean; // it needs the server
  scopes?: Scope[]; // without which a token cannot use it
  without?: Partial<Record<Scope, string>>; // what a token cannot do in it that lacks a scope
  load: () => Promise<{ default: Component<any> }>; // it takes ViewProps, or nothing
}

const KEPT = "Pictures can be looked at and downloaded, not marked, deleted, compared or looked into.";

export const VIEWS: View[] = [
  { name: "create", title: "Create", key: "c", scopes: ["draw"], without: { gallery: KEPT }, load: () => import("./create/Create.svelte") },
  {
    name: "gallery", title: "Gallery", key: "g", server: true, scopes: ["gallery"],
    without: { draw: "Pictures can be found, sorted and deleted, not drawn, changed or looked into." }, load: () => import("./gallery/Gallery.svelte"),
  },
  {
    name: "edit", title: "Edit", key: "e", server: true, scopes: ["draw"],
    without: { gallery: "A file can be opened here, and a picture from Create, not one of the gallery." }, load: () => import("./edit/Edit.svelte"),
  },
  { name: "grid", title: "Grid", key: "x", server: true, scopes: ["draw"], without: { gallery: KEPT }, load: () => import("./edit/GridPage.svelte") },
  { name: "film", title: "Film", key: "f", server: true, scopes: ["draw"], without: { gallery: KEPT }, load: () => import("./edit/FilmPage.svelte") },
  { name: "compare", title: "Compare", server: true, scopes: ["gallery"], load: () => import("./edit/ComparePage.svelte") },
  { name: "inside", title: "Look inside", server: true, scopes: ["draw", "gallery"], load: () => import("./inside/Inside.svelte") },
  { name: "learn", title: "Learn", key: "l", load: () => import("./learn/Learn.svelte") },
];
