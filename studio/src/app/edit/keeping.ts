/** What a reload does not lose: masks that are being painted, and pictures that were opened from files.
 * The browser's own database keeps the last ones. */

import type { Kept } from "./mask.ts";

const MOST = { masks: 20, files: 5 };
type Store = keyof typeof MOST;

export interface KeptFile {
  name: string;
  file: Blob;
}

interface Row<T> {
  key: string; // the picture's hash
  when: number;
  value: T;
}

function finish<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

const NAME = "fromnoise.edit";

function open(): Promise<IDBDatabase> {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => {
    for (const name of Object.keys(MOST)) request.result.createObjectStore(name, { keyPath: "key" }).createIndex("when", "when");
  };
  return finish(request);
}

async function work<T>(name: Store, mode: IDBTransactionMode, act: (store: IDBObjectStore) => Promise<T>): Promise<T> {
  const database = await open();
  try {
    return await act(database.transaction(name, mode).objectStore(name));
  } finally {
    database.close(); // after the transaction
  }
}

async function recall<T>(name: Store, key: string): Promise<T | null> {
  const row = await work<Row<T> | undefined>(name, "readonly", (store) => finish(store.get(key)));
  return row?.value ?? null;
}

/** Keeps a value; the oldest ones go. */
async function keep<T>(name: Store, key: string, value: T): Promise<void> {
  await work(name, "readwrite", async (store) => {
    await finish(store.put({ key, when: Date.now(), value } satisfies Row<T>));
    const keys = await finish(store.index("when").getAllKeys()) as IDBValidKey[];
    for (const old of keys.slice(0, Math.max(keys.length - MOST[name], 0))) store.delete(old);
  });
}

export const recallMask = (key: string): Promise<Kept | null> => recall("masks", key);
export const keepMask = (key: string, mask: Kept): Promise<void> => keep("masks", key, mask);
export const recallFile = (key: string): Promise<KeptFile | null> => recall("files", key);
export const keepFile = (key: string, file: KeptFile): Promise<void> => keep("files", key, file);

/** Takes all of it out of the browser. */
export const forgetFiles = (): Promise<unknown> => finish(indexedDB.deleteDatabase(NAME)).catch(() => undefined);
