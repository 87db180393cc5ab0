/** Whether this server wants a token, whether this browser has given one, and what it may do. The browser
 * keeps a cookie that no script can read: pictures, downloads and streams of events carry it too. */

import type { components } from "../../generated/api.d.ts";
import { forget } from "./store.ts";

const PATH = "/api/session";
const post = (token: string): RequestInit => ({
  method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ token }),
});

/** What a token may be for. */
export type Scope = "draw" | "gallery" | "admin";

class Session {
  asks = $state(false); // whether requests wait for a person to sign in
  name = $state(""); // of the token of who is signed in
  scopes = $state.raw<string[] | null>(null); // of that token; null: the server has not said them
  #waiting: (() => void)[] = [];
  #begun?: Promise<void>;

  /** Waits until it is known whether the server wants a token, and for the token where it does. */
  begin(): Promise<void> {
    return (this.#begun ??= this.look().then((lacks) => (lacks ? this.wait() : undefined)));
  }

  /** Sends a request; again, once somebody has signed in, where the server no longer knows who asks. */
  async send(request: Request): Promise<Response> {
    await this.begin();
    for (;;) {
      const answer = await fetch(request.clone());
      if (answer.status !== 401) return answer;
      await this.wait();
    }
  }

  /** Waits until somebody has signed in. */
  wait(): Promise<void> {
    this.asks = true;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Asks the server who is signed in; whether its answers need a token that it was not given. */
  async look(): Promise<boolean> {
    const answer = await fetch(PATH).catch(() => null);
    if (!answer?.ok) return false;
    const found = (await answer.json()) as components["schemas"]["SessionOut"];
    this.name = found.name ?? "";
    const lacks = found.needed && !found.signed_in;
    if (lacks) return true; // what is shown stays until somebody signs in
    this.scopes = found.scopes;
    this.#goOn();
    return false;
  }

  /** Whether the token is for that. Where the server has not said it, its answers will. */
  may(scope: Scope): boolean {
    return this.scopes?.includes(scope) ?? true;
  }

  /** Gives the server a token; its answer. What waits goes on where it is the right one. */
  async enter(token: string): Promise<Response> {
    const answer = await fetch(PATH, post(token));
    if (answer.ok) await this.look();
    return answer;
  }

  /** Signs out, and takes what this person wrote out of the browser. */
  async leave(): Promise<void> {
    await fetch(PATH, { method: "DELETE" });
    forget();
    const { forgetFiles } = await import("./edit/keeping.ts");
    await forgetFiles();
    location.hash = "";
    location.reload();
  }

  #goOn(): void {
    this.asks = false;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

export const session = new Session();
