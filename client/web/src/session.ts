// Who is logged in: one session for all tabs of the origin.
//
// The refresh token is in a cookie that no script reads; the access token is here, in memory. Whoever changes the cookie
// (a login, a refresh, a logout) holds a lock that all tabs share, and tells the others what came of it before it lets
// go: so tokens are turned over once for all, and what a tab was told last is what the cookie holds.

import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Tokens } from "./gen/free2talk/v1/session_pb.js";
import { Value } from "./observable.js";
import { type Channel, locked, type Platform, wait } from "./platform.js";
import { over, retryDelay } from "./retry.js";
import type { Session, SessionState } from "./types.js";

/** How long before its end an access token is refreshed, at most: of a short-lived one, a tenth of its life. */
const early = 30_000;

/** How long the other tabs have to say what they hold. They are there, but perhaps frozen. */
const answerWithin = 250;

/** Held is an access token and what is known of it. */
export interface Held {
  readonly access: string;
  readonly sessionId: string;
  /** Orders the tokens of a session: later ones have more. About when they came, as Date.now. */
  readonly made: number;
  /** When it is to be refreshed and when it runs out, as Date.now: the clock is the same in all tabs. */
  readonly refreshAt: number;
  readonly endsAt: number;
  /** Only where the refresh token is kept in memory. */
  readonly refresh?: string;
}

type Word =
  /** A newer access token, or in answer to somebody who asked the one that there is. */
  | { readonly kind: "tokens"; readonly held: Held; readonly answer?: true }
  /** A session is over. */
  | { readonly kind: "over"; readonly sessionId: string | undefined; readonly ended: string }
  /** What do you hold? */
  | { readonly kind: "ask"; readonly by: string }
  /** Nothing, in answer. */
  | { readonly kind: "nothing" };

/** Refreshed is an answer of the server's to a refresh. */
export interface Refreshed {
  readonly tokens: Tokens | undefined;
  readonly date: string | null;
}

export interface KeeperOptions {
  readonly platform: Platform;
  /** What the tabs that share a session have in common: the server. */
  readonly scope: string;
  readonly keep: "cookie" | "memory";
  /** Asks the server for new tokens; the refresh token is empty where the cookie has it. */
  readonly refresh: (refreshToken: string) => Promise<Refreshed>;
}

/** Keeper keeps the session of one tab in step with those of the others. */
export class Keeper extends Value<SessionState> implements Session {
  private held: Held | undefined;
  private flight: Promise<Held | undefined> | undefined;
  private changed: Promise<unknown> = Promise.resolve(); // once nothing changes the cookie any more
  private readonly endedIds = new Set<string>();
  private readonly id: string;
  private readonly platform: Platform;
  private readonly channel: Channel | undefined;
  private readonly tabs: string;
  private readonly lock: string;
  private readonly hint: string;
  private readonly closing = new AbortController();
  private heard = () => {};

  constructor(private readonly options: KeeperOptions) {
    const { platform, scope, keep } = options;
    const shared = keep === "cookie";
    super(shared && mayHaveSession(platform, scope) ? { status: "unknown" } : { status: "anonymous" });
    this.platform = platform;
    this.id = String(platform.random());
    this.tabs = `free2talk tab ${scope}`;
    this.lock = `free2talk session ${scope}`;
    this.hint = hintOf(scope);
    if (!shared) return;
    this.channel = platform.channel?.(this.lock);
    if (this.channel) this.channel.onmessage = ({ data }) => this.hear(data as Word);
    this.attend();
  }

  /** The access token's session; undefined where nobody is logged in, or it is not known yet. */
  get sessionId(): string | undefined {
    return this.held?.sessionId;
  }

  async restore(): Promise<SessionState> {
    if (this.current.status === "unknown") await this.renew(undefined);
    return this.current;
  }

  /** fresh returns a token that is not about to run out; undefined where nobody is logged in. */
  async fresh(): Promise<Held | undefined> {
    if (this.current.status === "unknown") await this.restore();
    const { held } = this;
    if (!held || this.platform.now() < held.refreshAt) return held;
    try {
      return await this.renew(held);
    } catch (error) {
      // It still holds, and the server is away, perhaps only for a moment.
      if (this.platform.now() < held.endsAt && this.held === held) return held;
      throw error;
    }
  }

  /** renew returns a newer token than that one. Of all who ask at once, the first starts a refresh and all wait for it. */
  renew(stale: Held | undefined): Promise<Held | undefined> {
    if (this.held?.access !== stale?.access) return Promise.resolve(this.held);
    if (!this.held && this.current.status === "anonymous") return Promise.resolve(undefined);
    this.flight ??= this.exclusively(() => this.fly(stale)).finally(() => (this.flight = undefined));
    return this.flight;
  }

  /** exclusively runs what changes the cookie while nothing else does: in no other tab where there are locks. */
  exclusively<T>(change: () => Promise<T>): Promise<T> {
    const locks = this.options.keep === "cookie" ? this.platform.locks : undefined;
    const turn = this.changed.then(() => locked(locks, this.lock, change));
    this.changed = turn.catch(() => {});
    return turn;
  }

  /** begin takes over what the server has just given, and tells the other tabs. */
  begin(tokens: Tokens, date: string | null): Held {
    const held = this.measure(tokens, date);
    this.adopt(held);
    this.say({ kind: "tokens", held });
    return held;
  }

  /** end forgets the session, if it is still the one that is held, and tells the other tabs. */
  end(sessionId: string | undefined, ended: string): void {
    if (sessionId !== this.held?.sessionId) return;
    this.drop(sessionId, ended);
    this.say({ kind: "over", sessionId, ended });
  }

  /**
   * lost ends a session of which a stream heard that it is over. Whoever knows more says so first: within the head start
   * another stream, and whatever changes the cookie just now, as a logout.
   */
  async lost(sessionId: string, ended: string, headStart: number): Promise<void> {
    const told = new AbortController();
    const stop = this.subscribe(() => this.sessionId !== sessionId && told.abort());
    if (headStart > 0) await wait(this.platform, headStart, told.signal);
    stop();
    if (!told.signal.aborted) await this.exclusively(async () => this.end(sessionId, ended));
  }

  close(): void {
    this.closing.abort();
    this.channel?.close();
  }

  /** fly makes one refresh, unless another tab was faster. The caller holds the lock. */
  private async fly(stale: Held | undefined): Promise<Held | undefined> {
    if (this.held?.access !== stale?.access) return this.held;
    if (await this.faster(stale)) return this.held;
    const before = this.held;
    for (let tries = 1; ; tries++) {
      try {
        const { tokens, date } = await this.options.refresh(before?.refresh ?? "");
        if (this.held !== before) return this.held; // somebody logged in or out meanwhile
        return tokens && this.begin(tokens, date);
      } catch (error) {
        const ended = over(error);
        if (ended && this.held === before) this.end(before?.sessionId, before ? ended : "");
        if (ended && !before) return undefined; // nobody was logged in
        const delay = retryDelay(this.platform, error, true, tries);
        if (delay === undefined || this.closing.signal.aborted) throw error;
        await wait(this.platform, delay, this.closing.signal);
      }
    }
  }

  /** faster asks the other tabs whether they have something newer, and says whether they had. */
  private async faster(stale: Held | undefined): Promise<boolean> {
    let others = await this.others();
    if (others <= 0) return false;
    const all = new AbortController();
    this.heard = () => {
      if (--others <= 0 || this.held?.access !== stale?.access) all.abort();
    };
    this.say({ kind: "ask", by: this.id });
    await wait(this.platform, answerWithin, all.signal);
    this.heard = () => {};
    return this.held?.access !== stale?.access;
  }

  /** others is how many other tabs there are. */
  private async others(): Promise<number> {
    const { locks } = this.platform;
    if (!locks?.query || !this.channel) return 0;
    // Where it is refused, this tab is alone.
    const { held } = await locks.query().catch(() => ({ held: [] }));
    return (held ?? []).filter((lock) => lock.name === this.tabs).length - 1;
  }

  /** attend counts this tab among the others for as long as it lives. */
  private attend(): void {
    const { locks } = this.platform;
    const gone = new Promise<void>((resolve) => this.closing.signal.addEventListener("abort", () => resolve()));
    // Where it is refused, this tab is not counted, and so not asked.
    locks?.request(this.tabs, { mode: "shared" }, () => gone).catch(() => {});
  }

  private hear(word: Word): void {
    switch (word.kind) {
      case "ask":
        this.say(this.held ? { kind: "tokens", held: this.held, answer: true } : { kind: "nothing" });
        return;
      case "tokens":
        // Who answers may not have heard yet of a login that this tab knows of.
        if (!word.answer || !this.held || this.held.sessionId === word.held.sessionId) this.adopt(word.held);
        return this.heard();
      case "nothing":
        return this.heard();
      case "over":
        // A tab that does not know yet who is logged in is told that nobody is.
        if (word.sessionId === this.held?.sessionId || !this.held) this.drop(word.sessionId, word.ended);
    }
  }

  private say(word: Word): void {
    this.channel?.postMessage(word);
  }

  private adopt(held: Held): void {
    if (this.endedIds.has(held.sessionId)) return;
    const same = this.held?.sessionId === held.sessionId;
    if (same && this.held && this.held.made >= held.made) return; // from a tab that has not heard yet
    this.held = held;
    this.remember(true);
    if (!same) this.set({ status: "authenticated", sessionId: held.sessionId });
  }

  private drop(sessionId: string | undefined, ended: string): void {
    if (sessionId) this.endedIds.add(sessionId);
    this.held = undefined;
    this.remember(false);
    this.set(ended ? { status: "anonymous", ended } : { status: "anonymous" });
  }

  /** remember says to the next page whether there is a session to take up. */
  private remember(session: boolean): void {
    if (this.options.keep !== "cookie") return;
    try {
      if (session) this.platform.storage?.setItem(this.hint, "1");
      else this.platform.storage?.removeItem(this.hint);
    } catch {
      // The person allows no storage: then the server is asked each time.
    }
  }

  /** measure reckons a token's life from the server's own time, so that the clock here may be wrong. */
  private measure(tokens: Tokens, date: string | null): Held {
    const now = this.platform.now();
    const made = date ? Date.parse(date) : now;
    const life = ms(tokens.accessExpiresAt) - (Number.isNaN(made) ? now : made);
    const endsAt = life > 0 ? now + life : Infinity; // else the server will say when
    return {
      access: tokens.accessToken,
      sessionId: tokens.sessionId,
      made: Math.max(now, (this.held?.made ?? 0) + 1),
      endsAt,
      refreshAt: endsAt - Math.min(early, life / 10),
      ...(tokens.refreshToken && { refresh: tokens.refreshToken }),
    };
  }
}

const ms = (at: Timestamp | undefined) => (at ? timestampMs(at) : 0);

const hintOf = (scope: string) => `free2talk session ${scope}`;

/** mayHaveSession is whether it is worth asking: a visitor who never logged in costs the server nothing. */
function mayHaveSession(platform: Platform, scope: string): boolean {
  try {
    return !platform.storage || platform.storage.getItem(hintOf(scope)) !== null;
  } catch {
    return true;
  }
}
