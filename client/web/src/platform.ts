// What the library needs of the browser, so that it works with less of it and tests can stand in for it.

/** Platform is the browser as far as the library knows it. */
export interface Platform {
  /** Locks that all tabs of the origin share: Web Locks. Unset, or refused: each tab refreshes and streams for itself. */
  readonly locks?: Locks | undefined;
  /** Opens what all tabs of the origin hear: a BroadcastChannel. Unset: each tab finds out by itself. */
  readonly channel?: ((name: string) => Channel) | undefined;
  /** Remembers, over the end of the page, that there is a session; never a token. Unset: the server is always asked. */
  readonly storage?: Pick<Storage, "getItem" | "setItem" | "removeItem"> | undefined;
  /** Calls back when the network has come back, or somebody looks at the tab again, until the function that it returns is called. */
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

/** locked runs what only one tab may do at a time; where the browser refuses its locks, as it blocks site data, without. */
export async function locked<T>(locks: Locks | undefined, name: string, run: () => Promise<T>): Promise<T> {
  if (!locks) return run();
  let given = false;
  try {
    return await locks.request(name, {}, () => {
      given = true;
      return run();
    });
  } catch (error) {
    if (given) throw error;
    return run();
  }
}

/** browser is what there is of one. */
export function browser(): Platform {
  const nav = globalThis.navigator as { locks?: Locks } | undefined;
  return {
    locks: nav?.locks, // none where the page did not come by a secure line
    channel: channels(),
    storage: storage(),
    onOnline(listener) {
      if (typeof document !== "object") return () => {};
      const seen = () => document.visibilityState === "visible" && listener();
      addEventListener("online", listener);
      document.addEventListener("visibilitychange", seen);
      return () => {
        removeEventListener("online", listener);
        document.removeEventListener("visibilitychange", seen);
      };
    },
    now: () => Date.now(),
    after(ms, callback) {
      const id = setTimeout(callback, ms);
      return () => clearTimeout(id);
    },
    random: () => Math.random(),
  };
}

/** channels opens BroadcastChannels, where there are any and the person and the browser allow them. */
function channels(): Platform["channel"] {
  try {
    new BroadcastChannel("free2talk").close();
    return (name) => new BroadcastChannel(name) as unknown as Channel;
  } catch {
    return undefined;
  }
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
