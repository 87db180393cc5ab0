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
