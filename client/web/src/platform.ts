// What the library needs of the browser, so that it works with less of it and tests can stand in for it.

/** Platform is the browser as far as the library knows it. */
export interface Platform {
  /** Locks that all tabs of the origin share: Web Locks. Unset: each tab is on its own, with its own streams. */
  readonly locks?: Locks | undefined;
  /** Opens what all tabs of the origin hear: a BroadcastChannel. Unset: each tab is on its own. */
  readonly channel?: ((name: string) => Channel) | undefined;
  /** Remembers, over the end of the page, that there is a session; never a token. Unset: the server is always asked. */
  readonly storage?: Pick<Storage, "getItem" | "setItem" | "removeItem"> | undefined;
  /** Calls back when the network has come back, until the function that it returns is called. */
  readonly onOnline?: ((listener: () => void) => () => void) | undefined;
  /** Milliseconds, as Date.now. */
  now(): number;
  /** Calls back after so many milliseconds, unless the function that it returns is called before. */
  after(ms: number, callback: () => void): () => void;
  /** From 0 up to 1. */
  random(): number;
}

/** Locks is the part of LockManager that is used. */
export interface Locks {
  request<T>(name: string, options: LockOptions, callback: (lock: unknown) => T | Promise<T>): Promise<T>;
  query?(): Promise<{ held?: readonly { name?: string }[] }>;
}

/** Channel is the part of BroadcastChannel that is used: what is posted reaches all others of the name, in order. */
export interface Channel {
  postMessage(message: unknown): void;
  onmessage: ((event: { readonly data: unknown }) => void) | null;
  close(): void;
}

/** browser is what there is of one. */
export function browser(): Platform {
  const nav = globalThis.navigator as { locks?: Locks } | undefined;
  return {
    // Both or neither: a leader that nobody hears would leave the others without events.
    ...(nav?.locks && typeof BroadcastChannel === "function"
      ? { locks: nav.locks, channel: (name: string) => new BroadcastChannel(name) as unknown as Channel }
      : {}),
    storage: storage(),
    onOnline(listener) {
      if (typeof globalThis.addEventListener !== "function") return () => {};
      globalThis.addEventListener("online", listener);
      return () => globalThis.removeEventListener("online", listener);
    },
    now: () => Date.now(),
    after(ms, callback) {
      const id = setTimeout(callback, ms);
      return () => clearTimeout(id);
    },
    random: () => Math.random(),
  };
}

/** storage is localStorage, where the person and the browser allow it. */
function storage(): Platform["storage"] {
  try {
    return globalThis.localStorage ?? undefined;
  } catch {
    return undefined;
  }
}

/** wait resolves after so many milliseconds, or at once when the signal ends or `hurry` is called back. */
export function wait(platform: Platform, ms: number, signal?: AbortSignal, hurry?: Platform["onOnline"]): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      cancel();
      unlisten?.();
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const cancel = platform.after(ms, done);
    const unlisten = hurry?.(done);
    signal?.addEventListener("abort", done);
  });
}
