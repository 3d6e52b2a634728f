// The four streams, each shared by all tabs that follow the same.

import { type Client, Code, type ConnectError } from "@connectrpc/connect";
import { Alone } from "./alone.js";
import { refusal } from "./errors.js";
import type { StreamEvent } from "./follow.js";
import type { PresenceService } from "./gen/free2talk/v1/presence_service_pb.js";
import { ConnectResponseSchema, WatchPresenceResponseSchema } from "./gen/free2talk/v1/presence_service_pb.js";
import { type Room, RoomStatus } from "./gen/free2talk/v1/room_pb.js";
import {
  type RoomService,
  WatchRoomResponseSchema,
  type WatchRoomResponse,
  WatchRoomsResponseSchema,
  type WatchRoomsResponse,
} from "./gen/free2talk/v1/room_service_pb.js";
import type { Listener } from "./listener.js";
import { Value } from "./observable.js";
import { type Channel, type Platform, wait } from "./platform.js";
import { backoff, passing } from "./retry.js";
import type { Keeper } from "./session.js";
import { type Kind, Shared, type Word } from "./shared.js";
import { LobbyState, PersonalState, PresenceState, RoomState } from "./state.js";
import type { Connection, LobbyFilter, SessionState, WatchOptions } from "./types.js";

export interface StreamsOptions {
  readonly platform: Platform;
  readonly scope: string;
  readonly keeper: Keeper;
  readonly rooms: Client<typeof RoomService>;
  readonly presence: Client<typeof PresenceService>;
}

/** Streams is all that one tab follows. */
export class Streams {
  /** How the worst of them is. */
  readonly connection = new Value<Connection>({ status: "idle" });
  private readonly statuses = new Map<unknown, Connection>();
  private readonly shared = new Map<string, Shared<StreamEvent>>();
  private readonly alone = new Map<unknown, Alone<StreamEvent>>();
  private readonly channel: Channel | undefined;
  private readonly closing = new AbortController();
  private readonly unsubscribe: () => void;

  constructor(private readonly options: StreamsOptions) {
    const { platform, scope, keeper } = options;
    this.channel = platform.locks && platform.channel?.(`free2talk streams ${scope}`);
    if (this.channel) this.channel.onmessage = ({ data }) => this.hear(data as Word);
    this.unsubscribe = keeper.subscribe(() => this.end(keeper.sessionId));
  }

  room(roomId: string, options: WatchOptions = {}): AsyncIterable<WatchRoomResponse> {
    const { rooms } = this.options;
    return this.iterate(`room ${roomId}`, options, {
      schema: WatchRoomResponseSchema,
      reducer: () => new RoomState(),
      open: (cursor, signal) => rooms.watchRoom({ roomId, cursor }, { signal, timeoutMs: 0 }),
      last: ({ event }) =>
        event.case === "roomClosed" || (event.case === "snapshot" && event.value.room?.status === RoomStatus.CLOSED),
      everybody: false,
    });
  }

  lobby(filter: LobbyFilter = {}, options: WatchOptions = {}): AsyncIterable<WatchRoomsResponse> {
    const { rooms } = this.options;
    const language = filter.language ?? "";
    const level = filter.level ?? 0;
    const kind: Kind<WatchRoomsResponse> = {
      schema: WatchRoomsResponseSchema,
      reducer: () => new LobbyState(filter),
      open: (cursor, signal) => whole(rooms.watchRooms({ language, level, cursor }, { signal, timeoutMs: 0 })),
      last: () => false,
      everybody: true,
    };
    return this.iterate(`lobby ${language} ${level}`, options, kind);
  }

  personal(options: WatchOptions = {}) {
    const { presence } = this.options;
    return this.iterate("personal", options, {
      schema: ConnectResponseSchema,
      reducer: () => new PersonalState(),
      open: (cursor, signal) => presence.connect({ cursor }, { signal, timeoutMs: 0 }),
      last: () => false,
      everybody: false,
    });
  }

  presence(ids: readonly string[], options: WatchOptions = {}) {
    const { presence } = this.options;
    const userIds = [...ids];
    return this.iterate(`presence ${[...userIds].sort().join()}`, options, {
      schema: WatchPresenceResponseSchema,
      reducer: () => new PresenceState(),
      open: (_, signal) => presence.watchPresence({ userIds }, { signal, timeoutMs: 0 }),
      last: () => false,
      everybody: false,
    });
  }

  close(): void {
    this.closing.abort();
    this.unsubscribe();
    for (const stream of [...this.shared.values()]) stream.finish({});
    this.channel?.close();
  }

  /** iterate is one iteration each time that it is begun. */
  private iterate<E extends StreamEvent>(name: string, options: WatchOptions, kind: Kind<E>): AsyncIterable<E> {
    return { [Symbol.asyncIterator]: () => this.events(name, options, kind) };
  }

  private async *events<E extends StreamEvent>(name: string, options: WatchOptions, kind: Kind<E>) {
    const { everybody } = kind;
    const { signal, release } = either(options.signal, this.closing.signal);
    try {
      if (!everybody) await this.known(signal);
      if (signal.aborted) return;
      const { sessionId } = this.options.keeper;
      if (!everybody && !sessionId) throw refusal(Code.Unauthenticated, "TOKEN_MISSING", "nobody is logged in");
      const key = everybody ? name : `${name} ${sessionId}`;
      yield* this.listen(signal, options.cursor ? this.separate(key, kind, options.cursor) : this.together(key, kind));
    } finally {
      release();
    }
  }

  private async *listen<E>(signal: AbortSignal, { listener, leave }: { listener: Listener<E>; leave: () => void }) {
    signal.addEventListener("abort", leave);
    try {
      for (let event = await listener.next(); event !== undefined; event = await listener.next()) {
        if (signal.aborted) return;
        yield event;
      }
    } finally {
      leave();
    }
  }

  /** known waits until it is known who is logged in, however long the server is away. */
  private async known(signal: AbortSignal): Promise<void> {
    const { platform, keeper } = this.options;
    const since = platform.now();
    try {
      for (let attempts = 1; !signal.aborted; attempts++) {
        try {
          await keeper.restore();
          return;
        } catch (error) {
          if (!passing(error)) throw error;
          const delay = backoff(platform, attempts);
          this.status(signal, { status: "reconnecting", since, retryAt: platform.now() + delay, attempts, error });
          await wait(platform, delay, signal, platform.onOnline);
        }
      }
    } finally {
      this.status(signal, undefined);
    }
  }

  /** together joins the stream that this tab, or another, follows already, or begins it. */
  private together<E extends StreamEvent>(key: string, kind: Kind<E>) {
    let stream = this.shared.get(key) as Shared<E> | undefined;
    if (!stream) {
      const { platform, scope } = this.options;
      const own = new Shared<E>(key, kind, {
        ...this.common(key),
        locks: this.channel && platform.locks,
        scope: `free2talk stream ${scope}`,
        post: (word) => this.channel?.postMessage(word),
        gone: () => {
          this.shared.delete(key);
          this.status(key, undefined);
        },
      });
      this.shared.set(key, own as unknown as Shared<StreamEvent>);
      stream = own;
    }
    const listener = stream.listen();
    return { listener, leave: () => stream.leave(listener) };
  }

  /** separate follows from a cursor of the caller's, which the others do not have. */
  private separate<E extends StreamEvent>(key: string, kind: Kind<E>, cursor: string) {
    const id = {};
    const stream = new Alone<E>(key, kind, cursor, {
      ...this.common(id),
      gone: () => {
        this.alone.delete(id);
        this.status(id, undefined);
      },
    });
    this.alone.set(id, stream as unknown as Alone<StreamEvent>);
    return { listener: stream.listener, leave: () => stream.finish({}) };
  }

  /** common is what all streams have of their surroundings; the id is that of their status. */
  private common(id: unknown) {
    const { platform, keeper } = this.options;
    return {
      platform,
      status: (connection: Connection) => this.status(id, connection),
      renew: () => keeper.fresh().then((held) => keeper.renew(held)),
    };
  }

  private hear(word: Word): void {
    this.shared.get(word.key)?.hear(word);
  }

  /** end ends the streams of other sessions than that. */
  private end(sessionId: string | undefined): void {
    const error = lost(this.options.keeper.current);
    for (const stream of [...this.shared.values(), ...this.alone.values()]) {
      if (stream.key.startsWith("lobby ") || (sessionId && stream.key.endsWith(` ${sessionId}`))) continue;
      stream.finish({ error });
    }
  }

  private status(of: unknown, connection: Connection | undefined): void {
    if (connection) this.statuses.set(of, connection);
    else this.statuses.delete(of);
    const all = [...this.statuses.values()];
    const worst = (["reconnecting", "connecting", "open"] as const).flatMap((s) => all.filter((c) => c.status === s))[0];
    const { current } = this.connection;
    const next = worst ?? { status: "idle" };
    if (next.status !== current.status || next.status === "reconnecting") this.connection.set(next);
  }
}

/** lost is the error of a stream whose session is over, with the server's reason where it gave one. */
function lost(state: SessionState): ConnectError {
  const ended = state.status === "anonymous" ? state.ended : undefined;
  const reason = !ended || ended === "LOGGED_OUT" ? "SESSION_REVOKED" : ended;
  return refusal(Code.Unauthenticated, reason, "the session has ended");
}

/** either ends with the first of both; AbortSignal.any is younger than the browsers that people have. */
function either(one: AbortSignal | undefined, other: AbortSignal): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController();
  const abort = () => controller.abort();
  const both = [one, other];
  if (both.some((signal) => signal?.aborted)) abort();
  for (const signal of both) signal?.addEventListener("abort", abort);
  const release = () => both.forEach((signal) => signal?.removeEventListener("abort", abort));
  return { signal: controller.signal, release };
}

/** whole puts a snapshot that comes in several messages together into one. */
async function* whole(stream: AsyncIterable<WatchRoomsResponse>): AsyncIterable<WatchRoomsResponse> {
  let rooms: Room[] = [];
  for await (const message of stream) {
    const { event } = message;
    if (event.case !== "snapshot") {
      yield message;
      continue;
    }
    rooms.push(...event.value.rooms);
    if (!event.value.last) continue;
    event.value.rooms = rooms;
    rooms = [];
    yield message;
  }
}
