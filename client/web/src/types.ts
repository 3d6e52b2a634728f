// What the library promises, in types.

import type { DescService } from "@bufbuild/protobuf";
import type { Client, Interceptor, Transport } from "@connectrpc/connect";
import type { AuthService } from "./gen/free2talk/v1/auth_service_pb.js";
import type {
  ConnectResponse,
  PresenceService,
  WatchPresenceResponse,
} from "./gen/free2talk/v1/presence_service_pb.js";
import type { Level } from "./gen/free2talk/v1/room_pb.js";
import type { RoomService, WatchRoomResponse, WatchRoomsResponse } from "./gen/free2talk/v1/room_service_pb.js";
import type { UserService } from "./gen/free2talk/v1/user_service_pb.js";
import type { Platform } from "./platform.js";

/** Free2TalkOptions are the knobs of a client. All may be left out in a page that the server itself serves. */
export interface Free2TalkOptions {
  /** Where the server is, such as `https://api.example.com`. Unset: where the page came from. */
  baseUrl?: string;

  /** How messages travel. `binary` (unset) is smaller and faster, `json` is easier to read in a browser's tools. */
  format?: "binary" | "json";

  /**
   * Where the refresh token is kept. `cookie` (unset): in an HttpOnly cookie that no script reads, shared by all tabs;
   * the page must be of the server's site. `memory`: in this client, until it is gone: for Node, or for another site.
   */
  keep?: "cookie" | "memory";

  /** How long a call may take, in milliseconds. Unset: 10,000. Streams last as long as they are followed. */
  timeoutMs?: number;

  /** Interceptors of the application's own, around each attempt of a call. */
  interceptors?: Interceptor[];

  /** In place of `fetch`, for tests and for programs that add something to each request. */
  fetch?: typeof globalThis.fetch;

  /** In place of everything above that concerns HTTP: a transport that is given the interceptors of the library. */
  transport?: (interceptors: Interceptor[]) => Transport;

  /** In place of the browser's locks, channels and timers; for tests. Unset: the browser's, as far as it has them. */
  platform?: Platform;
}

/** Free2Talk is a client: typed calls, one session for all tabs, streams that go on. */
export interface Free2Talk {
  /** Accounts and sessions. Register and login begin the session that all other calls then use; logout ends it. */
  readonly auth: Client<typeof AuthService>;
  /** Profiles. */
  readonly users: Client<typeof UserService>;
  /** Rooms: their streams are better followed by {@link watchRoom} and {@link watchRooms}. */
  readonly rooms: Client<typeof RoomService>;
  /** Who is there: its streams are better followed by {@link connect} and {@link watchPresence}. */
  readonly presence: Client<typeof PresenceService>;

  /** The typed client of any other service, with the same session: `client(AdminService)`. */
  client<S extends DescService>(service: S): Client<S>;

  /** Who is logged in. */
  readonly session: Session;

  /** How the streams that are followed in this tab are. */
  readonly connection: Observable<Connection>;

  /**
   * Follows a room. Starts with `snapshot` (or `resumed`, from a cursor), then brings each event once and in order.
   * Where the connection breaks it goes on by itself: with `resumed` and what was missed, or with a `snapshot` that
   * replaces everything before it and says why. Ends after `roomClosed`; throws where coming back would not help, such
   * as for ROOM_NOT_FOUND, KICKED or SESSION_REVOKED.
   */
  watchRoom(roomId: string, options?: WatchOptions): AsyncIterable<WatchRoomResponse>;

  /**
   * Follows the lobby, as {@link watchRoom} does a room. A snapshot always comes whole. Needs no log-in, and goes on when
   * somebody logs in or out.
   */
  watchRooms(filter?: LobbyFilter, options?: WatchOptions): AsyncIterable<WatchRoomsResponse>;

  /** Makes the user online for as long as any tab follows it, and brings what concerns them; see {@link watchRoom}. */
  connect(options?: WatchOptions): AsyncIterable<ConnectResponse>;

  /** Follows whether up to a hundred users are there. Each new connection starts with a snapshot. */
  watchPresence(userIds: readonly string[], options?: WatchOptions): AsyncIterable<WatchPresenceResponse>;

  /** Ends all streams of this client and leaves what tabs share. The session goes on at the server. */
  close(): void;
}

/** WatchOptions is how a stream is followed. */
export interface WatchOptions {
  /** Ends the stream, without an error. */
  signal?: AbortSignal;

  /** Goes on after the event that had this cursor. Unset: from the state as it is. */
  cursor?: string;
}

/** LobbyFilter is which rooms a stream of the lobby tells of. Unset finds all. */
export interface LobbyFilter {
  /** A language tag; `es` finds `es-MX` too. */
  language?: string;
  /** A level; rooms for any level are found too. */
  level?: Level;
}

/** Session is who is logged in, in all tabs. */
export interface Session extends Observable<SessionState> {
  /**
   * Resolves to the state when it is known, which takes a call of the server where a session is to be taken up again.
   * Rejects where the server could not be asked; then it may be called again.
   */
  restore(): Promise<SessionState>;
}

/** SessionState is whether somebody is logged in. */
export type SessionState =
  /** Not asked yet: see {@link Session.restore}. */
  | { readonly status: "unknown" }
  /** Nobody is. `ended` says why a session that there was is over: LOGGED_OUT, or the server's reason. */
  | { readonly status: "anonymous"; readonly ended?: string }
  /** Somebody is; `auth.getMe` says who. Another id means another login. */
  | { readonly status: "authenticated"; readonly sessionId: string };

/** Connection is how the streams are that this tab follows. */
export type Connection =
  /** None is followed. */
  | { readonly status: "idle" }
  /** The first connection is being made. */
  | { readonly status: "connecting" }
  /** All is well. */
  | { readonly status: "open" }
  /** A connection broke and the next is tried at `retryAt` (as Date.now), for the `attempts`-th time; `error` is why. */
  | {
      readonly status: "reconnecting";
      readonly since: number;
      readonly retryAt: number;
      readonly attempts: number;
      readonly error?: unknown;
    };

/** Observable is a value that changes; its shape is that of a Svelte store. */
export interface Observable<T> {
  /** The value now. */
  readonly current: T;
  /** Calls back with the value now and with each later one, until the function that it returns is called. */
  subscribe(listener: (value: T) => void): () => void;
}
