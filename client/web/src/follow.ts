// One stream of the server's over as many connections as it takes.

import { Code, ConnectError } from "@connectrpc/connect";
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { reasonOf, retryAfter } from "./errors.js";
import { type Platform, wait } from "./platform.js";
import { backoff, expired, longest, over, passing } from "./retry.js";
import { Gap } from "./state.js";
import type { Connection } from "./types.js";

/** The server sends a heartbeat every 15 s or so; what has said nothing for longer than this is given up. */
const silentFor = 45_000;

/** StreamEvent is what every message of a stream has. */
export interface StreamEvent {
  cursor?: string;
  time?: Timestamp;
  event: { case: string | undefined; value?: unknown };
}

export interface FollowOptions<E extends StreamEvent> {
  readonly platform: Platform;
  readonly signal: AbortSignal;
  /** Opens a connection that goes on after the event of that cursor; empty: from the state as it is. */
  open(cursor: string, signal: AbortSignal): AsyncIterable<E>;
  /** Where to go on: the cursor of the last event that was taken. */
  cursor(): string;
  /** Whether nothing comes after an event. */
  last(event: E): boolean;
  /** Whether it needs no log-in, and so outlives the session that it was opened in. */
  readonly everybody: boolean;
  /** Is told that another connection begins. */
  opened(): void;
  /** Takes a message. What it throws as {@link Gap} is mended by a snapshot. */
  take(event: E): void;
  /** Is told how the connection is. */
  status(connection: Connection): void;
  /** Gets a newer access token. */
  renew(): Promise<unknown>;
  /** Calls back when waiting should end now, until the function that it returns is called. */
  hurry?: Platform["onOnline"];
}

/** follow resolves when the stream is over, or the signal ends it; it rejects where coming back would not help. */
export async function follow<E extends StreamEvent>(options: FollowOptions<E>): Promise<void> {
  const { platform, signal, status } = options;
  const f = new Follower(options);
  status({ status: "connecting" });
  while (!signal.aborted) {
    const delay = await f.connection();
    if (delay === undefined) return;
    await wait(platform, delay, signal, options.hurry);
  }
}

class Follower<E extends StreamEvent> {
  private failures = 0; // in a row, without a connection between them that was of use
  private hasty = false; // whether one followed at once on another, without one between that was of use
  private since: number | undefined; // when it broke; unset while a connection is there
  private began: number | undefined; // when this connection had brought what a stream begins with
  private renewed = false; // the token, for this connection, which has brought nothing yet
  private forget = false; // the cursor, for the next connection

  constructor(private readonly options: FollowOptions<E>) {}

  /** connection is one of them. It returns how long to wait before the next; undefined where the stream is over. */
  async connection(): Promise<number | undefined> {
    const { platform, signal, open } = this.options;
    const bounded = new AbortController();
    const cut = () => bounded.abort();
    signal.addEventListener("abort", cut);
    let quiet = platform.after(silentFor, cut);
    this.began = undefined;
    this.options.opened();
    try {
      for await (const event of open(this.forget ? "" : this.options.cursor(), bounded.signal)) {
        quiet();
        if (signal.aborted) return undefined;
        quiet = platform.after(silentFor, cut);
        const delay = this.took(event);
        if (delay !== "on") return delay;
      }
      throw new ConnectError("the stream ended", Code.Unavailable);
    } catch (error) {
      return await this.after(error);
    } finally {
      quiet();
      signal.removeEventListener("abort", cut);
      cut();
    }
  }

  /** took says what comes after an event. */
  private took(event: E): number | undefined | "on" {
    const { event: e } = event;
    this.renewed = false;
    if (e.case === "goAway") return this.sentAway((e.value as { reconnectAfter?: Duration }).reconnectAfter);
    this.options.take(event);
    this.forget = false;
    this.since = undefined;
    this.options.status({ status: "open" });
    // What a stream begins with says not yet that it is of use: a server that ends each connection after it would be
    // called again at once, for ever.
    if (this.began === undefined) this.began = this.options.platform.now();
    else this.used();
    return this.options.last(event) ? undefined : "on";
  }

  /** sentAway is announced, so nothing is wrong until the next connection fails, or is sent away too. */
  private sentAway(after: Duration | undefined): number {
    this.weigh();
    return this.soon(new ConnectError("the server sends everybody away", Code.Unavailable), after ? durationMs(after) : 0);
  }

  /** after says what to do about the end of a connection, or throws where nothing helps. */
  private async after(error: unknown): Promise<number | undefined> {
    const { signal, renew } = this.options;
    if (signal.aborted) return undefined;
    this.weigh();
    const { renewed } = this;
    this.renewed = false; // whatever this one ended with: a later refusal is that of another token
    if (!expired(error) || renewed) return this.broke(error);
    try {
      await renew();
    } catch (failure) {
      return signal.aborted ? undefined : this.broke(failure);
    }
    if (signal.aborted) return undefined;
    this.renewed = true;
    return this.soon(error);
  }

  /** broke is after for what no other token mends. */
  private broke(error: unknown): number {
    if (error instanceof Gap) {
      this.forget = true;
      return this.failed(error);
    }
    if (reasonOf(error) === "BAD_CURSOR" && !this.forget && this.options.cursor()) {
      this.forget = true; // of another server, or of a version that is no more: the state says that it begins anew
      return this.soon(error);
    }
    if (passing(error) || (this.options.everybody && over(error))) return this.failed(error);
    throw error;
  }

  /** weigh says of a connection that was there for as long as the longest wait that it was of use, though nothing happened. */
  private weigh(): void {
    if (this.began !== undefined && this.options.platform.now() - this.began >= longest) this.used();
  }

  private used(): void {
    this.failures = 0;
    this.hasty = false;
  }

  /** soon is no wait, or the one that was asked for. The second in a row is that of a failure, lest it goes round for ever. */
  private soon(error: unknown, asked = 0): number {
    if (this.hasty) return this.failed(error, asked);
    this.hasty = true;
    return asked;
  }

  private failed(error: unknown, least = 0): number {
    const { platform, status } = this.options;
    const now = platform.now();
    const since = (this.since ??= now);
    const attempts = ++this.failures;
    const delay = Math.max(least, retryAfter(error) || backoff(platform, attempts));
    status({ status: "reconnecting", since, retryAt: now + delay, attempts, error });
    return delay;
  }
}
