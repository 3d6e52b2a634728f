import type { Observable } from "./types.js";

/** Value is an observable that its owner sets. */
export class Value<T> implements Observable<T> {
  #current: T;
  readonly #listeners = new Set<(value: T) => void>();

  constructor(current: T) {
    this.#current = current;
  }

  get current(): T {
    return this.#current;
  }

  set(value: T): void {
    this.#current = value;
    // A copy: who listens may stop listening, or set it again, meanwhile.
    for (const listener of [...this.#listeners]) if (this.#listeners.has(listener)) listener(value);
  }

  subscribe(listener: (value: T) => void): () => void {
    // Its own, so that one function may listen twice.
    const own = (value: T) => listener(value);
    this.#listeners.add(own);
    own(this.#current);
    return () => this.#listeners.delete(own);
  }
}
