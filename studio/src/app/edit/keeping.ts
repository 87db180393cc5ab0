/** Masks that a reload does not lose: the last ones, in the browser's own database. */

import type { Kept } from "./mask.ts";

const MOST = 20; // masks

interface Row {
  key: string; // the picture's hash
  when: number;
  mask: Kept;
}

function finish<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function open(): Promise<IDBDatabase> {
  const request = indexedDB.open("fromnoise.masks", 1);
  request.onupgradeneeded = () => request.result.createObjectStore("masks", { keyPath: "key" }).createIndex("when", "when");
  return finish(request);
}

async function work<T>(mode: IDBTransactionMode, act: (store: IDBObjectStore) => Promise<T>): Promise<T> {
  const database = await open();
  try {
    return await act(database.transaction("masks", mode).objectStore("masks"));
  } finally {
    database.close(); // after the transaction
  }
}

/** The mask that was kept for a picture, or null. */
export async function recallMask(key: string): Promise<Kept | null> {
  const row = await work<Row | undefined>("readonly", (store) => finish(store.get(key)));
  return row?.mask ?? null;
}

/** Keeps a mask; the oldest ones go. */
export async function keepMask(key: string, mask: Kept): Promise<void> {
  await work("readwrite", async (store) => {
    await finish(store.put({ key, when: Date.now(), mask } satisfies Row));
    const keys = await finish(store.index("when").getAllKeys());
    for (const old of keys.slice(0, Math.max(keys.length - MOST, 0))) store.delete(old);
  });
}

export async function forgetMask(key: string): Promise<void> {
  await work("readwrite", (store) => finish(store.delete(key)));
}
