/** Small values that outlive the page, in localStorage; without it they live as long as the page. */

export function recall<T>(name: string, otherwise: T): T {
  try {
    const text = localStorage.getItem(`fromnoise.${name}`);
    return text === null ? otherwise : (JSON.parse(text) as T);
  } catch {
    return otherwise;
  }
}

export function remember(name: string, value: unknown): void {
  try {
    localStorage.setItem(`fromnoise.${name}`, JSON.stringify(value));
  } catch {
    // Storage is closed or full: the value is forgotten with the page.
  }
}

/** Takes all of them out of the browser. */
export function forget(): void {
  try {
    for (const name of Object.keys(localStorage)) if (name.startsWith("fromnoise.studio.")) localStorage.removeItem(name);
  } catch {
    // Storage is closed: there is nothing in it.
  }
}

/** Bytes in hexadecimal. */
export const spell = (bytes: ArrayBuffer): string => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** A key that nobody else has. `crypto.randomUUID` is missing where a page comes without TLS from another machine. */
export const makeKey = (): string => spell(crypto.getRandomValues(new Uint8Array(16)).buffer);
