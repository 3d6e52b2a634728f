// One stream over many connections: which of them were of use, and what the end of one means to the next.

import { Code } from "@connectrpc/connect";
import { type Connection, reasonOf } from "@free2talk/client";
import { expect, test } from "vitest";
import { follow, type FollowOptions, type StreamEvent } from "../src/follow.js";
import { Gap } from "../src/state.js";
import { Browser, settle, wire } from "./fakes.js";

const event = (kind: string, value: object = {}): StreamEvent => ({ cursor: "c1", event: { case: kind, value } });
const snapshot = event("snapshot");
const resumed = event("resumed", { replayed: 0 });
const message = event("messagePosted");
const away = (seconds?: bigint) => event("goAway", seconds === undefined ? {} : { reconnectAfter: { seconds, nanos: 0 } });

const refused = () => wire(Code.Unauthenticated, "TOKEN_EXPIRED");
const unavailable = () => wire(Code.Unavailable, "DATABASE_UNAVAILABLE");
const reused = () => wire(Code.Unauthenticated, "REFRESH_REUSED");

/** Play is one connection: what it brings, for how long it is there then, and what it ends with. */
interface Play {
  sends?: StreamEvent[];
  lasts?: number;
  error?: () => Error;
  /** It stays as it is. */
  stays?: true;
}

/** Whoever asks without end would stop everything else, the test too. */
const enough = 1_000;

/** Stage is a server that plays, the last play for ever, and who follows it. */
class Stage {
  readonly tab = new Browser().tab();
  readonly stop = new AbortController();
  readonly states: Connection[] = [];
  readonly told: string[] = [];
  readonly waits: number[] = [];
  opened = 0;
  renewals = 0;
  ended: unknown;
  private endedAt: number | undefined;

  constructor(
    private readonly plays: Play[],
    more: Partial<FollowOptions<StreamEvent>> = {},
  ) {
    const options: FollowOptions<StreamEvent> = {
      platform: this.tab,
      signal: this.stop.signal,
      everybody: false,
      open: () => this.open(),
      cursor: () => "c1",
      last: () => false,
      opened: () => {},
      take: (e) => this.take(e),
      status: (state) => this.states.push(state),
      renew: async () => {},
      ...more,
    };
    const renew = () => (this.renewals++, options.renew());
    follow({ ...options, renew }).then(
      () => (this.ended = "yes"),
      (error: unknown) => (this.ended = reasonOf(error) ?? error),
    );
  }

  private take(e: StreamEvent): void {
    if (e.event.case === "participantLeft") throw new Gap("one was missed");
    this.told.push(e.event.case ?? "");
  }

  private async *open(): AsyncIterable<StreamEvent> {
    if (this.endedAt !== undefined) this.waits.push(this.tab.now() - this.endedAt);
    const play = this.plays[Math.min(this.opened++, this.plays.length - 1)];
    if (this.opened >= enough) await new Promise(() => {});
    try {
      yield* play?.sends ?? [];
      if (play?.stays) await new Promise(() => {});
      if (play?.lasts) await new Promise<void>((resolve) => this.tab.after(play.lasts ?? 0, resolve));
      if (play?.error) throw play.error();
    } finally {
      this.endedAt = this.tab.now();
    }
  }
}

const hour = 3_600_000;

test.each<[name: string, play: Play]>([
  ["resumed, and no more", { sends: [resumed] }],
  ["a snapshot, and no more", { sends: [snapshot] }],
  ["a snapshot, and then a gap", { sends: [snapshot, event("participantLeft")] }],
  ["a snapshot, and then that its cursor is bad", { sends: [snapshot], error: () => wire(Code.InvalidArgument, "BAD_CURSOR") }],
  ["resumed, and then that a new token has run out", { sends: [resumed], error: refused }],
  ["go_away, and not when to come back", { sends: [away()] }],
  ["go_away, to come back at once", { sends: [resumed, away(0n)] }],
  ["that it is away, for no time", { error: () => wire(Code.Unavailable, "BUSY", { retryMs: 0 }) }],
])("a server that brings on each connection %s is called ever more seldom", async (_, play) => {
  const stage = new Stage([play]);
  await stage.tab.pass(60_000);
  stage.stop.abort();
  expect(Math.max(...stage.waits)).toBeGreaterThan(2_000);
  expect(stage.opened).toBeLessThan(60);
});

test.each<[name: string, play: Play]>([
  ["an event", { sends: [resumed, message] }],
  ["a heartbeat", { sends: [snapshot, event("heartbeat")] }],
  ["resumed, for a while", { sends: [resumed], lasts: 5_000 }],
])("a connection that brought %s was of use: the next comes soon", async (_, play) => {
  const stage = new Stage([...Array<Play>(30).fill(play), { stays: true }]);
  await stage.tab.pass(hour);
  stage.stop.abort();
  expect(stage.waits.length).toBeGreaterThanOrEqual(30);
  expect(Math.max(...stage.waits.slice(0, 30))).toBeLessThan(200);
});

test("go_away is obeyed each time, and nobody is told that something is wrong while connections are of use", async () => {
  const plays = [away(2n), away(3n)].map((last) => ({ sends: [resumed, message, last] }));
  const stage = new Stage([...plays, { sends: [resumed], stays: true }]);
  await stage.tab.pass(10_000);
  stage.stop.abort();
  expect(stage.waits).toEqual([2_000, 3_000]);
  expect(stage.states.map((s) => s.status)).not.toContain("reconnecting");
});

test("a connection that is there again was broken since it broke last", async () => {
  const stage = new Stage([...Array<Play>(8).fill({ sends: [resumed] }), { stays: true }]);
  const began = stage.tab.now();
  await stage.tab.pass(30_000);
  stage.stop.abort();
  const broken = stage.states.flatMap((s) => (s.status === "reconnecting" ? [s] : []));
  expect(broken.map((s) => s.attempts)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect((broken.at(-1)?.since ?? 0) - began).toBeGreaterThan(5_000);
});

/** failing is a renewal that fails so often, in that way. */
function failing(times: number, error: () => Error): () => Promise<void> {
  return async () => {
    if (times-- > 0) throw error();
  };
}

test.each([1, 5])("a stream waits for the renewal of its token, where that fails in passing: %i times", async (times) => {
  const renew = failing(times, unavailable);
  const stage = new Stage([...Array<Play>(times + 1).fill({ error: refused }), { sends: [snapshot], stays: true }], { renew });
  await stage.tab.pass(60_000);
  expect([stage.told, stage.ended, stage.renewals]).toEqual([["snapshot"], undefined, times + 1]);
  const broken = stage.states.flatMap((s) => (s.status === "reconnecting" ? [reasonOf(s.error)] : []));
  expect(broken).toEqual(Array(times).fill("DATABASE_UNAVAILABLE"));
  stage.stop.abort();
});

test("where the renewal says that the session is over the stream ends with that", async () => {
  const stage = new Stage([{ error: refused }], { renew: failing(1, reused) });
  await stage.tab.pass(10_000);
  expect([stage.ended, stage.opened]).toEqual(["REFRESH_REUSED", 1]);
});

test("what needs no log-in goes on when its token can be renewed no more", async () => {
  const stage = new Stage([{ error: refused }, { sends: [snapshot], stays: true }], { renew: failing(1, reused), everybody: true });
  await stage.tab.pass(10_000);
  expect([stage.ended, stage.told]).toEqual([undefined, ["snapshot"]]);
  stage.stop.abort();
});

test("a token that runs out is renewed, also where nothing came since the last one did", async () => {
  const meanwhile = Array<Play>(4).fill({ error: unavailable });
  const stage = new Stage([{ error: refused }, ...meanwhile, { error: refused }, { sends: [resumed], stays: true }]);
  await stage.tab.pass(60_000);
  expect([stage.ended, stage.told, stage.renewals]).toEqual([undefined, ["resumed"], 2]);
  stage.stop.abort();
});

test("a new token that is refused at once is not renewed for ever", async () => {
  const stage = new Stage([{ error: refused }]);
  await stage.tab.pass(10_000);
  expect([stage.ended, stage.renewals, stage.opened]).toEqual(["TOKEN_EXPIRED", 1, 2]);
});

test("who stops following while the token is renewed is told nothing more", async () => {
  let fail = (_: Error) => {};
  const stage = new Stage([{ error: refused }], { renew: () => new Promise<void>((_, reject) => (fail = reject)) });
  await settle();
  stage.stop.abort();
  fail(unavailable());
  await settle();
  expect([stage.ended, stage.states]).toEqual(["yes", [{ status: "connecting" }]]);
});
