// One stream that the tabs of an origin share.
//
// The tab that holds the stream's lock leads: it follows the server and posts each event to the others, which have the
// same events in the same order. Each tab keeps the state and its last events, so whichever is next given the lock, when
// the leader closes, goes on from its own cursor. What a tab has not got, after a change of leader or a lost post, it
// asks for by its cursor: the leader answers with the events after it, or else with a snapshot that says why.

import { create, fromBinary, toBinary, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { plain, unplain, type Plain } from "./errors.js";
import { follow, type StreamEvent } from "./follow.js";
import { SnapshotReason } from "./gen/free2talk/v1/event_pb.js";
import { Listener, mostBehind } from "./listener.js";
import type { Locks, Platform } from "./platform.js";
import { Gap, type Reducer } from "./state.js";
import type { Connection } from "./types.js";

/** How many of its last events a tab keeps for the others. */
const kept = 512;
/** How long a leader may say nothing: the server's heartbeats come more often. */
const leaderSilent = 60_000;
/** How long a leader has to answer, and to try again when it was to. */
const leaderAnswers = 4_000;

/** Kind is what differs between the streams. */
export interface Kind<E extends StreamEvent> {
  readonly schema: DescMessage;
  readonly reducer: () => Reducer<E>;
  readonly open: (cursor: string, signal: AbortSignal) => AsyncIterable<E>;
  readonly last: (event: E) => boolean;
  /** Whether it needs no log-in, and so goes on when somebody logs in or out. */
  readonly everybody: boolean;
}

/** Word is what tabs tell each other of a stream. */
export type Word = { readonly key: string } & (
  | { readonly kind: "lead"; readonly term: string }
  | { readonly kind: "event"; readonly term: string; readonly n: number; readonly bytes: Uint8Array }
  | { readonly kind: "state"; readonly term: string; readonly connection: Connection }
  | { readonly kind: "end"; readonly term: string; readonly error?: Plain }
  | { readonly kind: "ask"; readonly by: string; readonly since: string; readonly reason: SnapshotReason }
  | {
      readonly kind: "answer";
      readonly to: string;
      readonly term: string;
      /** The number of the last event that is in it. */
      readonly n: number;
      readonly events: readonly Uint8Array[];
    }
);

type Of<K extends Word["kind"]> = Extract<Word, { kind: K }>;

/** givenUp says whether a lock was wanted no longer, or taken by force; of any other error, the browser refuses its locks. */
const givenUp = (error: unknown) => (error as Error).name === "AbortError";

/** Surroundings is what a stream has in common with the others of its tab. */
export interface Surroundings {
  readonly platform: Platform;
  /** Unset: the tabs do not share. */
  readonly locks: Locks | undefined;
  /** What names the stream's lock. */
  readonly scope: string;
  post(word: Word): void;
  status(connection: Connection): void;
  renew(): Promise<unknown>;
  /** Is told that nobody will hear of it any more. */
  gone(): void;
}

/** Shared is such a stream in one tab. */
export class Shared<E extends StreamEvent> {
  private readonly listeners = new Set<Listener<E>>();
  private readonly state: Reducer<E>;
  private readonly id: string;
  private cursor = ""; // of the last event that was taken
  private recent: E[] = []; // the last ones that had cursors
  private owed = 0; // missed events that are still to come
  private readonly stopped = new AbortController();

  private alone: boolean; // as there are no locks: the others neither hear of this tab nor are heard
  private attempt = new AbortController(); // at the lock
  private steal = false;
  private leading: AbortController | undefined;
  private term = "";
  private n = 0;
  private synced = false; // as leader: with the server
  private heard = false; // as leader: by anybody
  private connection: Connection = { status: "connecting" };
  private asks: Of<"ask">[] = [];
  private hurried = () => {};

  private joined = false; // as follower
  private askedAt = 0;
  private watchdog = () => {};

  constructor(
    readonly key: string,
    private readonly kind: Kind<E>,
    private readonly around: Surroundings,
  ) {
    this.state = kind.reducer();
    this.alone = !around.locks;
    this.id = String(around.platform.random());
    around.status({ status: "connecting" });
    void this.run();
  }

  /** listen begins an iteration, with the state as soon as it is known. */
  listen(): Listener<E> {
    const listener = new Listener<E>();
    this.listeners.add(listener);
    this.start(listener);
    return listener;
  }

  /** leave ends an iteration; with the last one the stream. */
  leave(listener: Listener<E>): void {
    listener.finish({});
    this.listeners.delete(listener);
    if (this.listeners.size === 0) this.stop();
  }

  /** finish ends all iterations. */
  finish(ending: { error?: unknown }): void {
    for (const listener of this.listeners) listener.finish(ending);
    this.stop();
  }

  /** hear takes what another tab posted. */
  hear(word: Word): void {
    if (this.alone) return;
    if (word.kind === "ask") return this.asked(word);
    if (word.kind === "lead") return this.deposed(word);
    if (this.leading || (word.kind === "answer" && word.to !== this.id)) return;
    this.watch(leaderSilent);
    switch (word.kind) {
      case "state":
        return this.mirror(word.connection);
      case "answer":
        return this.join(word);
      case "event":
        return this.next(word);
      case "end":
        return this.finish(word.error ? { error: unplain(word.error) } : {});
    }
  }

  private stop(): void {
    if (this.stopped.signal.aborted) return;
    this.stopped.abort();
    this.leading?.abort();
    this.attempt.abort();
    this.watchdog();
    this.around.gone();
  }

  /** run waits for the lock and leads, as often as it gets it; where there is none, at once. */
  private async run(): Promise<void> {
    const { locks, scope } = this.around;
    if (!locks) return this.lead();
    this.ask();
    while (!this.stopped.signal.aborted) {
      this.attempt = new AbortController();
      const options = this.steal ? { steal: true } : { signal: this.attempt.signal };
      this.steal = false;
      try {
        await locks.request(`${scope} ${this.key}`, options, () => this.lead());
      } catch (error) {
        this.leading?.abort();
        if (givenUp(error)) continue; // to take the lock by force; or it was taken from us so
        this.alone = true;
        return this.lead();
      }
    }
  }

  // As leader.

  private async lead(): Promise<void> {
    if (this.stopped.signal.aborted) return;
    const leading = (this.leading = new AbortController());
    const { signal } = leading;
    this.watchdog();
    this.heard = this.term !== ""; // who led before may still be there, though asleep
    this.term = String(this.around.platform.random());
    this.n = 0;
    this.synced = this.joined = false;
    this.connection = { status: "idle" };
    this.post({ kind: "lead", term: this.term });
    try {
      await this.follow(signal);
      if (!signal.aborted) this.conclude({});
    } catch (error) {
      if (!signal.aborted) this.conclude({ error });
    } finally {
      if (this.leading === leading) this.leading = undefined;
      this.asks = [];
    }
  }

  private follow(signal: AbortSignal): Promise<void> {
    const { platform, renew } = this.around;
    return follow<E>({
      platform,
      signal,
      renew,
      open: this.kind.open,
      last: this.kind.last,
      everybody: this.kind.everybody,
      cursor: () => this.cursor,
      opened: () => (this.owed = 0),
      take: (event) => this.lecture(event),
      status: (connection) => this.declare(connection),
      hurry: (done) => {
        this.hurried = done;
        return platform.onOnline?.(done) ?? (() => {});
      },
    });
  }

  /** lecture takes an event from the server, and tells it. */
  private lecture(event: E): void {
    this.take(event);
    this.n++;
    if (this.heard) this.post({ kind: "event", term: this.term, n: this.n, bytes: this.encode(event) });
    if (this.owed > 0) return;
    this.synced = true;
    for (const ask of this.asks.splice(0)) this.answer(ask);
  }

  private declare(connection: Connection): void {
    const changed = connection.status !== this.connection.status || connection.status === "reconnecting";
    if (!changed) return;
    this.connection = connection;
    this.around.status(connection);
    if (this.heard) this.tell(connection);
  }

  /** tell says to the others how the connection is; why it broke stays here, as not every error travels. */
  private tell(connection: Connection): void {
    const travels = connection.status === "reconnecting" ? { ...connection, error: undefined } : connection;
    this.post({ kind: "state", term: this.term, connection: travels });
  }

  private conclude(ending: { error?: unknown }): void {
    const error = ending.error === undefined ? {} : { error: plain(ending.error) };
    this.post({ kind: "end", term: this.term, ...error });
    this.finish(ending);
  }

  private asked(ask: Of<"ask">): void {
    if (!this.leading) return;
    this.heard = true;
    if (this.synced && this.owed === 0) this.answer(ask);
    else this.asks.push(ask);
    this.tell(this.connection);
    // Who asks is awake, which the timers of this tab may not be.
    if (this.connection.status === "reconnecting" && this.connection.retryAt <= this.around.platform.now()) this.hurried();
  }

  private answer(ask: Of<"ask">): void {
    const missed = ask.since ? this.after(ask.since) : undefined;
    const events = missed ? [this.resumed(ask.since, missed.length), ...missed] : [this.snapshot(ask.reason)];
    const bytes = events.map((event) => this.encode(event));
    this.post({ kind: "answer", to: ask.by, term: this.term, n: this.n, events: bytes });
  }

  /** deposed hears that another tab leads. */
  private deposed({ term }: Of<"lead">): void {
    this.leading?.abort();
    this.leading = undefined;
    this.term = term;
    this.ask();
  }

  // As follower.

  private ask(): void {
    this.joined = false;
    this.askedAt = this.around.platform.now();
    // Who had nothing yet is told nothing new when it is said that they are healed.
    const reason = this.state.snapshot(SnapshotReason.HEALED) ? SnapshotReason.HEALED : SnapshotReason.STARTED;
    this.post({ kind: "ask", by: this.id, since: this.cursor, reason });
    this.watch(leaderSilent);
  }

  private join(word: Of<"answer">): void {
    if (this.joined && word.term === this.term) return; // it was asked twice, when the leader was not yet known
    this.term = word.term;
    this.n = word.n;
    this.joined = true;
    this.owed = 0;
    this.around.status({ status: "open" });
    for (const bytes of word.events) this.absorb(bytes);
  }

  private next(word: Of<"event">): void {
    if (!this.joined || word.term !== this.term) {
      // The answer is on its way, unless it was lost.
      if (this.around.platform.now() - this.askedAt > leaderAnswers) this.ask();
      return;
    }
    if (word.n <= this.n) return;
    if (word.n !== this.n + 1) return this.ask();
    this.n = word.n;
    this.absorb(word.bytes);
  }

  private absorb(bytes: Uint8Array): void {
    try {
      this.take(this.decode(bytes));
    } catch (error) {
      if (!(error instanceof Gap)) throw error;
      this.cursor = "";
      this.ask();
    }
  }

  private mirror(connection: Connection): void {
    this.around.status(connection);
    // A leader in the background may sleep through its time: then somebody who is awake takes over.
    if (connection.status === "reconnecting") {
      this.watch(Math.max(0, connection.retryAt - this.around.platform.now()) + leaderAnswers, true);
    }
  }

  /** watch takes the lead by force from a leader that says nothing for so long, and does not answer then. */
  private watch(ms: number, last = false): void {
    this.watchdog();
    if (this.stopped.signal.aborted || this.leading) return;
    this.watchdog = this.around.platform.after(ms, () => {
      if (last) {
        this.steal = true;
        this.attempt.abort();
        return;
      }
      this.ask();
      this.watch(leaderAnswers, true);
    });
  }

  // As both.

  /** take applies an event and passes it on to who iterates. */
  private take(event: E): void {
    const { event: e, cursor } = event;
    this.state.apply(event);
    if (e.case === "resumed") this.owed = (e.value as { replayed: number }).replayed;
    else if (e.case === "heartbeat") this.owed = 0;
    else if (this.owed > 0) this.owed--;
    if (e.case === "snapshot") this.recent = [];
    if (cursor && (cursor !== this.cursor || e.case === "snapshot")) this.recent.push(event);
    if (this.recent.length > 2 * kept) this.recent = this.recent.slice(-kept);
    if (cursor) this.cursor = cursor;
    for (const listener of this.listeners) {
      if (!listener.started) this.start(listener);
      else if (e.case !== "heartbeat") this.pass(listener, event);
    }
  }

  private pass(listener: Listener<E>, event: E): void {
    listener.push(event);
    if (listener.behind <= mostBehind || this.owed > 0) return;
    listener.skip();
    listener.push(this.snapshot(SnapshotReason.FELL_BEHIND));
  }

  /** start tells a listener the state, as soon as that is known. */
  private start(listener: Listener<E>): void {
    if (this.owed > 0 || !this.state.snapshot(SnapshotReason.STARTED)) return;
    listener.push(this.snapshot(SnapshotReason.STARTED));
    listener.started = true;
  }

  /** after is what came after the event of that cursor; undefined where it is not known. */
  private after(cursor: string): E[] | undefined {
    if (cursor === this.cursor) return [];
    const at = this.recent.findLastIndex((event) => event.cursor === cursor);
    return at < 0 ? undefined : this.recent.slice(at + 1).filter((event) => event.event.case !== "heartbeat");
  }

  private snapshot(reason: SnapshotReason): E {
    const event = this.state.snapshot(reason) as E;
    event.cursor = this.cursor;
    event.time = timestampNow();
    return event;
  }

  private resumed(cursor: string, replayed: number): E {
    const event = { case: "resumed", value: { $typeName: "free2talk.v1.Resumed", replayed } };
    return create(this.kind.schema, { cursor, time: timestampNow(), event } as never) as unknown as E;
  }

  private encode(event: E): Uint8Array {
    return toBinary(this.kind.schema, event as unknown as MessageShape<DescMessage>);
  }

  private decode(bytes: Uint8Array): E {
    return fromBinary(this.kind.schema, bytes) as unknown as E;
  }

  private post(word: Word extends infer W ? (W extends Word ? Omit<W, "key"> : never) : never): void {
    if (!this.alone) this.around.post({ key: this.key, ...word } as Word);
  }
}
