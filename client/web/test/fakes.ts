// A browser and a server in memory.

import { create } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ConnectRouter, createRouterTransport, type HandlerContext } from "@connectrpc/connect";
import { createFree2Talk, type Free2Talk, type Free2TalkOptions } from "@free2talk/client";
import { type Participant, ParticipantSchema, type Room, RoomSchema } from "../src/gen/free2talk/v1/room_pb.js";
import type { Channel, Locks, Platform } from "../src/platform.js";

type Waiting = { mode: string; grant: () => void; signal: AbortSignal | undefined };
type Holder = { mode: string; lose: (error: Error) => void };

/** Without is what a browser does not have; "refused" is there, and refuses to be used, as where site data is blocked. */
export type Without = Partial<Record<"channel" | "storage", true> & { locks: true | "refused" }>;

/** Browser is what the tabs of one origin share. Its clock stands still unless a test moves it, or a tab waits. */
export class Browser {
  readonly storage = new Map<string, string>();
  /** How often locks were asked for that are refused. */
  refusals = 0;
  private lost = 0;
  private readonly channels = new Map<string, Set<FakeChannel>>();
  private readonly held = new Map<string, Set<Holder>>();
  private readonly queues = new Map<string, Waiting[]>();

  /** tab is the platform of one more tab. */
  tab(without: Without = {}): Tab {
    return new Tab(this, without);
  }

  locks(): Locks {
    return {
      request: (name, options, callback) => this.request(name, options, callback as () => unknown) as never,
      query: async () => ({ held: [...this.held].flatMap(([name, holders]) => [...holders].map(() => ({ name }))) }),
    };
  }

  /** refusing are locks as a browser has them that blocks site data. */
  refusing(): Locks {
    const refuse = async (): Promise<never> => {
      // Whoever asks without end would stop everything else, this test too.
      if (this.refusals++ > 1000) await new Promise(() => {});
      throw new DOMException("denied in this context", "SecurityError");
    };
    return { request: refuse, query: refuse };
  }

  private async request(name: string, options: LockOptions, callback: (lock: unknown) => unknown): Promise<unknown> {
    const mode = options.mode ?? "exclusive";
    const holders = this.held.get(name) ?? new Set<Holder>();
    this.held.set(name, holders);
    if (options.steal) {
      for (const holder of [...holders]) holder.lose(new DOMException("stolen", "AbortError"));
      holders.clear();
    } else if (!free(holders, mode) || (this.queues.get(name)?.length ?? 0) > 0) {
      await this.queue(name, mode, options.signal);
    }
    options.signal?.throwIfAborted();
    let lose!: (error: Error) => void;
    const stolen = new Promise<never>((_, reject) => (lose = reject));
    const holder = { mode, lose };
    holders.add(holder);
    try {
      return await Promise.race([Promise.resolve(callback({ name })), stolen]);
    } finally {
      holders.delete(holder);
      this.next(name);
    }
  }

  private queue(name: string, mode: string, signal: AbortSignal | undefined): Promise<void> {
    const queue = this.queues.get(name) ?? [];
    this.queues.set(name, queue);
    return new Promise((resolve, reject) => {
      const waiting: Waiting = { mode, grant: resolve, signal };
      queue.push(waiting);
      signal?.addEventListener("abort", () => {
        const at = queue.indexOf(waiting);
        if (at >= 0) queue.splice(at, 1);
        reject(new DOMException("given up", "AbortError"));
      });
    });
  }

  private next(name: string): void {
    const queue = this.queues.get(name);
    const first = queue?.[0];
    if (!queue || !first || !free(this.held.get(name) ?? new Set(), first.mode)) return;
    queue.shift();
    first.grant();
  }

  /** losing loses the next posts, until the function that it returns is called. */
  losing(posts: number): () => void {
    this.lost = posts;
    return () => (this.lost = 0);
  }
  private loses(): boolean {
    return this.lost > 0 && this.lost-- > 0;
  }

  /** join gives a channel to all others of its name, a moment after each post. */
  join(name: string): FakeChannel {
    const all = this.channels.get(name) ?? new Set();
    this.channels.set(name, all);
    const channel: FakeChannel = {
      onmessage: null,
      postMessage: (message) => {
        const data = structuredClone(message);
        if (this.loses()) return;
        for (const other of all) if (other !== channel) queueMicrotask(() => other.onmessage?.({ data }));
      },
      close: () => all.delete(channel),
    };
    all.add(channel);
    return channel;
  }
}

const free = (holders: Set<Holder>, mode: string) =>
  holders.size === 0 || (mode === "shared" && [...holders].every((h) => h.mode === "shared"));

type FakeChannel = Channel;

/** Tab is one tab: what it waits for passes as soon as a test lets it. */
export class Tab implements Platform {
  readonly locks: Locks | undefined;
  readonly channel: ((name: string) => Channel) | undefined;
  readonly storage: Platform["storage"];
  private static ids = 0;
  private time = 1_700_000_000_000;
  private timers = new Set<{ at: number; run: () => void }>();
  private readonly open: FakeChannel[] = [];

  constructor(
    browser: Browser,
    without: Without,
  ) {
    const locks = without.locks === "refused" ? browser.refusing() : browser.locks();
    this.locks = without.locks === true ? undefined : locks;
    this.channel = without.channel
      ? undefined
      : (name) => {
          const channel = browser.join(name);
          this.open.push(channel);
          return channel;
        };
    const { storage } = browser;
    this.storage = without.storage
      ? undefined
      : {
          getItem: (key) => storage.get(key) ?? null,
          setItem: (key, value) => void storage.set(key, value),
          removeItem: (key) => void storage.delete(key),
        };
  }

  now(): number {
    return this.time;
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.time + ms, run };
    this.timers.add(timer);
    return () => this.timers.delete(timer);
  }

  /** Of no use as a random number: it tells tabs apart. */
  random(): number {
    return 0.5 + Tab.ids++ / 1e6;
  }

  /** pass moves this tab's clock, running what falls due, until so many milliseconds have passed. */
  async pass(ms: number): Promise<void> {
    const until = this.time + ms;
    for (;;) {
      await settle();
      const due = [...this.timers].filter((t) => t.at <= until).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.time = Math.max(this.time, due.at);
      this.timers.delete(due);
      due.run();
    }
    this.time = until;
    await settle();
  }

  /** mute loses what this tab posts, as a crash in the middle of a post would, until the function that it returns is called. */
  mute(): () => void {
    const before = this.open.map((channel) => channel.postMessage);
    for (const channel of this.open) channel.postMessage = () => {};
    return () => this.open.forEach((channel, i) => (channel.postMessage = before[i] ?? channel.postMessage));
  }
}

/** Line is one open stream, as the server has it. */
export interface Line<E> {
  readonly cursor: string;
  /** The token that it was opened with; "nobody" without. */
  readonly by: string;
  readonly signal: AbortSignal;
  send(event: E): void;
  end(error?: unknown): void;
}

/** Lines are all streams of one kind that were opened. */
export class Lines<E> {
  readonly all: Line<E>[] = [];

  /** Those that are open. */
  get open(): Line<E>[] {
    return this.all.filter((line) => !line.signal.aborted);
  }

  /** watch is one of them; it begins with what `first` returns, or ends with what that throws. */
  async *watch(cursor: string, context: HandlerContext, first: () => E[]): AsyncGenerator<E> {
    const queue: E[] = [];
    let ending: { error?: unknown } | undefined;
    let wake = () => {};
    const stop = new AbortController();
    context.signal.addEventListener("abort", () => stop.abort());
    stop.signal.addEventListener("abort", () => wake());
    this.all.push({
      cursor,
      by: context.requestHeader.get("Authorization")?.replace("Bearer ", "") ?? "nobody",
      signal: stop.signal,
      send: (event) => (queue.push(event), wake()),
      end: (error) => ((ending = { error }), stop.abort()),
    });
    try {
      queue.push(...first());
      for (;;) {
        const next = queue.shift();
        if (next) yield next;
        else if (ending?.error) throw ending.error;
        else if (stop.signal.aborted) return;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      stop.abort();
    }
  }
}

/** settle lets everything happen that waits for no timer. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** wire makes an error as it comes from a server. */
export function wire(code: Code, reason: string, more: { retryMs?: number; metadata?: Record<string, string> } = {}): ConnectError {
  const error = new ConnectError(reason.toLowerCase(), code);
  error.details = [{ type: "google.rpc.ErrorInfo", value: errorInfo(reason, "free2talk", more.metadata) }];
  if (more.retryMs !== undefined) error.details.push({ type: "google.rpc.RetryInfo", value: retryInfo(more.retryMs) });
  return error;
}

const field = (n: number, type: WireType) => (n << 3) | type;
const text = (w: BinaryWriter, n: number, s: string) => w.uint32(field(n, WireType.LengthDelimited)).string(s);
const bytes = (w: BinaryWriter, n: number, b: Uint8Array) => w.uint32(field(n, WireType.LengthDelimited)).bytes(b);

export function errorInfo(reason: string, domain: string, metadata: Record<string, string> = {}): Uint8Array {
  const w = new BinaryWriter();
  text(w, 1, reason);
  text(w, 2, domain);
  for (const [key, value] of Object.entries(metadata)) {
    const entry = new BinaryWriter();
    text(entry, 1, key);
    text(entry, 2, value);
    bytes(w, 3, entry.finish());
  }
  return w.finish();
}

export function retryInfo(ms: number): Uint8Array {
  const duration = new BinaryWriter();
  duration.uint32(field(1, WireType.Varint)).int64(Math.floor(ms / 1000));
  duration.uint32(field(2, WireType.Varint)).int32((ms % 1000) * 1e6);
  const w = new BinaryWriter();
  bytes(w, 1, duration.finish());
  return w.finish();
}

/** violationsOf encodes buf.validate.Violations of fields, their rules and messages. */
export function violationsOf(...all: { path: (string | [string, number])[]; rule: string; message: string }[]): Uint8Array {
  const w = new BinaryWriter();
  for (const { path, rule, message } of all) {
    const elements = new BinaryWriter();
    for (const part of path) {
      const element = new BinaryWriter();
      element.uint32(field(1, WireType.Varint)).int32(7);
      text(element, 2, typeof part === "string" ? part : part[0]);
      if (typeof part !== "string") element.uint32(field(6, WireType.Varint)).uint64(part[1]);
      bytes(elements, 1, element.finish());
    }
    const violation = new BinaryWriter();
    text(violation, 2, rule);
    text(violation, 3, message);
    bytes(violation, 5, elements.finish());
    bytes(w, 1, violation.finish());
  }
  return w.finish();
}

/** open makes the client of a tab of a server that the routes are. */
export function open(platform: Platform, routes: (router: ConnectRouter) => void, options: Free2TalkOptions = {}): Free2Talk {
  return createFree2Talk({
    baseUrl: "https://api.example",
    platform,
    transport: (interceptors) => createRouterTransport(routes, { transport: { interceptors } }),
    ...options,
  });
}

export const aRoom = (id: string, more: Partial<Room> = {}): Room =>
  create(RoomSchema, {
    id,
    name: `room ${id}`,
    languages: ["es"],
    version: 1n,
    capacity: 4,
    createdAt: timestampFromMs(1_700_000_000_000),
    ...more,
  } as never) as Room;

export const somebody = (id: string, role = 2): Participant =>
  create(ParticipantSchema, { user: { id, username: id, displayName: id }, role, state: 1 });
