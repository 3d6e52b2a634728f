// One stream of the server's over as many connections as it takes.

import { Code, ConnectError } from "@connectrpc/connect";
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { reasonOf, retryAfter } from "./errors.js";
import { type Platform, wait } from "./platform.js";
import { backoff, expired, over, passing } from "./retry.js";
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
  private failures = 0; // in a row, without a message between them
  private since = 0; // when the first of them was
  private renewed = false;
  private forget = false; // the cursor, for the next connection

  constructor(private readonly options: FollowOptions<E>) {}

  /** connection is one of them. It returns how long to wait before the next; undefined where the stream is over. */
  async connection(): Promise<number | undefined> {
    const { platform, signal, open } = this.options;
    const bounded = new AbortController();
    const cut = () => bounded.abort();
    signal.addEventListener("abort", cut);
    let quiet = platform.after(silentFor, cut);
    this.options.opened();
    try {
      for await (const event of open(this.forget ? "" : this.options.cursor(), bounded.signal)) {
        quiet();
        if (signal.aborted) return undefined;
        quiet = platform.after(silentFor, cut);
        const delay = this.took(event);
        if (delay !== "on") return delay;
      }
      return this.failed(new ConnectError("the stream ended", Code.Unavailable));
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
    if (e.case === "goAway") {
      // Announced, so nothing is wrong until the next connection fails.
      const after = (e.value as { reconnectAfter?: Duration }).reconnectAfter;
      return after ? durationMs(after) : 0;
    }
    this.options.take(event);
    this.failures = 0;
    this.renewed = this.forget = false;
    this.options.status({ status: "open" });
    return this.options.last(event) ? undefined : "on";
  }

  /** after says what to do about the end of a connection, or throws where nothing helps. */
  private async after(error: unknown): Promise<number | undefined> {
    if (this.options.signal.aborted) return undefined;
    if (error instanceof Gap) {
      this.forget = true;
      return this.failed(error);
    }
    if (expired(error) && !this.renewed) {
      this.renewed = true;
      // Where that fails, the next connection says why.
      await this.options.renew().catch(() => {});
      return 0;
    }
    if (reasonOf(error) === "BAD_CURSOR" && !this.forget && this.options.cursor()) {
      this.forget = true; // of another server, or of a version that is no more: the state says that it begins anew
      return 0;
    }
    if (passing(error) || (this.options.everybody && over(error))) return this.failed(error);
    throw error;
  }

  private failed(error: unknown): number {
    const { platform, status } = this.options;
    const now = platform.now();
    if (this.failures++ === 0) this.since = now;
    const delay = retryAfter(error) ?? backoff(platform, this.failures);
    status({ status: "reconnecting", since: this.since, retryAt: now + delay, attempts: this.failures, error });
    return delay;
  }
}
