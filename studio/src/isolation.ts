/** Registers the service worker. It caches what was loaded, and adds the headers that let a page use
 * threads. They act from the next load of a page on, so the first visit is loaded once more, but
 * only as long as its reader has done nothing yet. */

import { siteUrl } from "./ui/links.ts";

const RELOADED = "fromnoise.reloaded"; // in sessionStorage: at most once a tab

export function registerServiceWorker(): void {
  if (!("serviceWorker" in navigator) || !isSecureContext || import.meta.env.DEV) return;
  let touched = false;
  for (const name of ["pointerdown", "keydown", "wheel", "touchstart"]) {
    addEventListener(name, () => (touched = true), { once: true, passive: true, capture: true });
  }
  const reload = () => {
    if (crossOriginIsolated || touched || !navigator.serviceWorker.controller) return;
    try {
      if (sessionStorage.getItem(RELOADED)) return;
      sessionStorage.setItem(RELOADED, "yes");
    } catch {
      return; // without a memory it might reload for ever
    }
    location.reload(); // the browser keeps the place in the page
  };
  navigator.serviceWorker.addEventListener("controllerchange", reload);
  navigator.serviceWorker
    .register(siteUrl("service-worker.js"))
    .then(reload)
    .catch(() => {
      // A host or browser without service workers: the site works, with one thread and no cache.
    });
}
