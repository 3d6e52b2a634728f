import { create } from "@bufbuild/protobuf";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import {
  AuthService,
  type Connection,
  type Free2Talk,
  PresenceService,
  reasonOf,
  RoomService,
  SnapshotReason,
  type WatchRoomResponse,
} from "@free2talk/client";
import { expect, test } from "vitest";
import { RoomStatus } from "../src/gen/free2talk/v1/room_pb.js";
import { WatchRoomResponseSchema } from "../src/gen/free2talk/v1/room_service_pb.js";
import { aRoom, Browser, type Line, Lines, open, settle, somebody, type Tab, type Without, wire } from "./fakes.js";

/** Hall is a server with one room, whose history it keeps. */
class Hall {
  private readonly watching = new Lines<WatchRoomResponse>();
  readonly lines = this.watching.all;
  readonly history: WatchRoomResponse[] = [];
  refuse: unknown;
  private version = 1n;

  constructor() {
    this.history.push(this.event(`c0`, { case: "snapshot", value: {} }));
  }

  /** The lines that are open. */
  get open(): Line<WatchRoomResponse>[] {
    return this.watching.open;
  }

  readonly routes = (router: ConnectRouter): void => {
    router.service(AuthService, {
      login: () => ({ tokens: { accessToken: "token", sessionId: "s1" } }),
      logout: () => ({}),
    });
    router.service(PresenceService, {});
    router.service(RoomService, {
      watchRoom: (req, context) => this.watching.watch(req.cursor, context, () => this.first(req.cursor)),
    });
  };

  /** say posts a message. */
  say(text: string): void {
    this.tell({ case: "messagePosted", value: { text, roomId: "r", messageId: text } });
  }

  /** seat lets somebody sit down. */
  seat(who: string): void {
    this.tell({ case: "participantJoined", value: { roomId: "r", participant: somebody(who), roomVersion: ++this.version } });
  }

  tell(event: unknown): void {
    const told = this.event(`c${this.history.length}`, event);
    this.history.push(told);
    for (const line of this.open) line.send(told);
  }

  event(cursor: string, event: unknown): WatchRoomResponse {
    return create(WatchRoomResponseSchema, { cursor, event } as never);
  }

  private first(cursor: string): WatchRoomResponse[] {
    if (this.refuse) throw this.refuse;
    const at = this.history.findIndex((e) => e.cursor === cursor);
    const last = this.history.at(-1)?.cursor ?? "";
    if (at >= 0) {
      const missed = this.history.slice(at + 1);
      return [this.event(cursor, { case: "resumed", value: { replayed: missed.length } }), ...missed];
    }
    const participants = this.history.flatMap((e) =>
      e.event.case === "participantJoined" && e.event.value.participant ? [e.event.value.participant] : [],
    );
    const reason = cursor ? SnapshotReason.CURSOR_TOO_OLD : SnapshotReason.STARTED;
    const room = aRoom("r", { version: this.version });
    return [this.event(last, { case: "snapshot", value: { reason, room, participants } })];
  }
}

/** Reader follows the room in one tab and keeps what it is told. */
class Reader {
  readonly events: WatchRoomResponse[] = [];
  readonly states: Connection[] = [];
  readonly stop = new AbortController();
  ended: "yes" | unknown;
  readonly done: Promise<void>;

  constructor(
    readonly app: Free2Talk,
    cursor?: string,
  ) {
    app.connection.subscribe((state) => this.states.push(state));
    this.done = this.read(cursor);
  }

  /** What it was told, shortly. */
  get told(): string[] {
    return this.events.map(({ event: e }) => {
      if (e.case === "messagePosted") return e.value.text;
      if (e.case === "snapshot") return `snapshot ${SnapshotReason[e.value.reason]} ${e.value.participants.map((p) => p.user?.id)}`.trim();
      if (e.case === "resumed") return `resumed ${e.value.replayed}`;
      if (e.case === "participantJoined") return `+${e.value.participant?.user?.id}`;
      return e.case ?? "";
    });
  }

  private async read(cursor: string | undefined): Promise<void> {
    try {
      for await (const event of this.app.watchRoom("r", { signal: this.stop.signal, ...(cursor && { cursor }) })) this.events.push(event);
      this.ended = "yes";
    } catch (error) {
      this.ended = error;
    }
  }
}

async function world(tabs: number, without: Without = {}) {
  const browser = new Browser();
  const hall = new Hall();
  const all: Tab[] = [];
  const apps: Free2Talk[] = [];
  for (let i = 0; i < tabs; i++) {
    const tab = browser.tab(without);
    all.push(tab);
    apps.push(open(tab, hall.routes));
  }
  await apps[0]?.auth.login({ login: { case: "username", value: "ada" }, password: "p" });
  await settle();
  const readers = apps.map((app) => new Reader(app));
  await settle();
  return { browser, hall, tabs: all, apps, readers };
}

function got<T>(all: readonly T[], at: number): T {
  const one = all[at];
  if (one === undefined) throw new Error(`there is no ${at}`);
  return one;
}

test("one stream is enough for three tabs, and all hear the same", async () => {
  const { hall, readers, browser } = await world(3);
  hall.say("one");
  hall.seat("ada");
  await settle();
  const late = new Reader(open(browser.tab(), hall.routes));
  await settle();
  hall.say("two");
  await settle();
  expect(hall.lines).toHaveLength(1);
  for (const reader of readers) expect(reader.told).toEqual(["snapshot STARTED", "one", "+ada", "two"]);
  expect(late.told).toEqual(["snapshot STARTED ada", "two"]);
  expect(readers.map((r) => r.states.at(-1)?.status)).toEqual(["open", "open", "open"]);
});

test("when the leading tab closes, the next goes on from its cursor, and nobody misses or hears twice", async () => {
  const { hall, apps, readers } = await world(3);
  hall.say("one");
  await settle();
  got(apps, 0).close();
  hall.say("while nobody listens");
  await settle();
  hall.say("two");
  await settle();
  expect(hall.lines.map((l) => l.cursor)).toEqual(["", "c1"]);
  expect(hall.open).toHaveLength(1);
  for (const reader of readers.slice(1)) {
    const said = reader.told.filter((t) => !t.startsWith("resumed"));
    expect(said).toEqual(["snapshot STARTED", "one", "while nobody listens", "two"]);
  }
  expect(got(readers, 0).ended).toBe("yes");
});

test("a tab that heard less than the new leader, or more, gets exactly what it lacks", async () => {
  for (const deaf of [1, 2]) {
    const { hall, tabs, apps, readers } = await world(3);
    hall.say("one");
    await settle();
    // The leader dies in the middle of telling: only one of the others hears the last words.
    const other = got(readers, deaf);
    got(tabs, 0).mute();
    hall.say("lost by both");
    await settle();
    got(apps, 0).close();
    await settle();
    hall.say("two");
    await settle();
    const said = other.told.filter((t) => !t.startsWith("resumed"));
    expect(said).toEqual(["snapshot STARTED", "one", "lost by both", "two"]);
  }
});

test("a post that is lost is asked for", async () => {
  const { hall, readers, browser } = await world(2);
  hall.say("one");
  await settle();
  // One post is dropped on its way: the next number shows it.
  const lost = browser.losing(1);
  hall.say("two");
  await settle();
  lost();
  hall.say("three");
  await settle();
  expect(got(readers, 1).told.filter((t) => !t.startsWith("resumed"))).toEqual(["snapshot STARTED", "one", "two", "three"]);
});

test("a connection that breaks is opened again by its cursor, after a while that grows", async () => {
  const { hall, tabs, readers } = await world(1);
  const [tab, reader] = [got(tabs, 0), got(readers, 0)];
  hall.say("one");
  await settle();
  hall.refuse = wire(Code.Unavailable, "DATABASE_UNAVAILABLE");
  got(hall.open, 0).end(wire(Code.Unavailable, "DATABASE_UNAVAILABLE"));
  hall.say("meanwhile");
  await tab.pass(20_000);
  const tries = hall.lines.length;
  expect(tries).toBeGreaterThan(4);
  expect(tries).toBeLessThan(20);
  expect(reader.states.at(-1)).toMatchObject({ status: "reconnecting" });
  hall.refuse = undefined;
  await tab.pass(6_000);
  expect(reader.told).toEqual(["snapshot STARTED", "one", "resumed 1", "meanwhile"]);
  expect(reader.states.at(-1)).toEqual({ status: "open" });
  expect(hall.lines.slice(1).every((l) => l.cursor === "c1")).toBe(true);
});

test("go_away is obeyed, and nobody is told that something is wrong", async () => {
  const { hall, tabs, readers } = await world(1);
  const reader = got(readers, 0);
  got(hall.open, 0).send(hall.event("", { case: "goAway", value: { reconnectAfter: { seconds: 2n, nanos: 0 } } }));
  await settle();
  await got(tabs, 0).pass(1_900);
  expect(hall.lines).toHaveLength(1);
  await got(tabs, 0).pass(200);
  expect(hall.lines.map((l) => l.cursor)).toEqual(["", "c0"]);
  expect(reader.states.map((s) => s.status)).not.toContain("reconnecting");
  expect(reader.told).toEqual(["snapshot STARTED", "resumed 0"]);
});

test("a stream that falls silent is given up and opened again", async () => {
  const { hall, tabs } = await world(1);
  await got(tabs, 0).pass(30_000);
  got(hall.open, 0).send(hall.event("c0", { case: "heartbeat", value: {} }));
  await settle();
  await got(tabs, 0).pass(40_000);
  expect(hall.lines).toHaveLength(1);
  await got(tabs, 0).pass(10_000);
  expect(hall.lines.map((l) => l.cursor)).toEqual(["", "c0"]);
});

test("a cursor that the server does not know, and a gap, are mended by a snapshot", async () => {
  const { hall, tabs, readers } = await world(1);
  const reader = got(readers, 0);
  got(hall.open, 0).send(hall.event("c9", { case: "participantLeft", value: { userId: "x", roomVersion: 9n } }));
  await got(tabs, 0).pass(1_000);
  expect(reader.told).toEqual(["snapshot STARTED", "snapshot STARTED"]);
  expect(hall.lines.map((l) => l.cursor)).toEqual(["", ""]);
});

test("what would not help is not tried: the error reaches all tabs", async () => {
  const { hall, readers } = await world(2);
  got(hall.open, 0).end(wire(Code.PermissionDenied, "KICKED"));
  await settle();
  expect(readers.map((r) => reasonOf(r.ended))).toEqual(["KICKED", "KICKED"]);
  expect(hall.lines.length).toBeLessThanOrEqual(2);
});

test("a room that closes ends the stream, without an error, in all tabs", async () => {
  const { hall, readers } = await world(2);
  hall.tell({ case: "roomClosed", value: { roomId: "r", roomVersion: 2n } });
  await settle();
  expect(readers.map((r) => [r.told.at(-1), r.ended])).toEqual(Array(2).fill(["roomClosed", "yes"]));
  expect(readers.map((r) => r.states.at(-1)?.status)).toEqual(["idle", "idle"]);
});

test("logging out ends the streams of the session in all tabs", async () => {
  const { hall, apps, readers } = await world(2);
  await got(apps, 1).auth.logout({});
  await settle();
  expect(readers.map((r) => reasonOf(r.ended))).toEqual(["SESSION_REVOKED", "SESSION_REVOKED"]);
  expect(hall.open).toHaveLength(0);
});

test("a signal ends an iteration without an error, and the last one closes the stream", async () => {
  const { hall, readers } = await world(2);
  got(readers, 0).stop.abort();
  await got(readers, 0).done;
  await settle();
  expect(got(readers, 0).ended).toBe("yes");
  expect(hall.open).toHaveLength(1);
  got(readers, 1).stop.abort();
  await settle();
  expect(hall.open).toHaveLength(0);
});

test("a leader that sleeps is replaced, and follows when it wakes", async () => {
  const { hall, tabs, readers } = await world(2);
  hall.say("one");
  await settle();
  const wakes = got(tabs, 0).mute();
  await got(tabs, 1).pass(70_000);
  wakes();
  await got(tabs, 0).pass(5_000);
  hall.say("two");
  await settle();
  expect(hall.open).toHaveLength(1);
  for (const reader of readers) {
    expect(reader.told.filter((t) => !t.startsWith("resumed"))).toEqual(["snapshot STARTED", "one", "two"]);
  }
});

test("without Web Locks each tab has a stream of its own", async () => {
  const { hall, readers } = await world(2, { locks: true });
  hall.say("one");
  await settle();
  expect(hall.lines).toHaveLength(2);
  for (const reader of readers) expect(reader.told).toEqual(["snapshot STARTED", "one"]);
});

test("where locks are refused each tab has a stream of its own, and asks for a lock once", async () => {
  const { hall, readers, browser } = await world(2, { locks: "refused", storage: true });
  hall.say("one");
  await settle();
  expect(hall.open).toHaveLength(2);
  for (const reader of readers) {
    expect(reader.told).toEqual(["snapshot STARTED", "one"]);
    expect(reader.states.at(-1)).toEqual({ status: "open" });
  }
  expect(browser.refusals).toBeLessThan(20);
  got(readers, 0).stop.abort();
  await settle();
  hall.say("two");
  await settle();
  expect(got(readers, 1).told.at(-1)).toBe("two");
});

test("a second iteration in the tab begins with the state", async () => {
  const { hall, apps, readers } = await world(1);
  hall.seat("ada");
  await settle();
  const second = new Reader(got(apps, 0));
  await settle();
  hall.say("one");
  await settle();
  expect(second.told).toEqual(["snapshot STARTED ada", "one"]);
  expect(got(readers, 0).told).toEqual(["snapshot STARTED", "+ada", "one"]);
  expect(hall.lines).toHaveLength(1);
});

test("from a cursor of one's own a stream goes on where it was", async () => {
  const { hall, apps } = await world(1);
  hall.say("one");
  hall.say("two");
  await settle();
  const reader = new Reader(got(apps, 0), "c1");
  await settle();
  hall.say("three");
  await settle();
  expect(reader.told).toEqual(["resumed 1", "two", "three"]);
});

test("who does not keep up is told the state in place of what they missed", async () => {
  const { hall, apps } = await world(1);
  const slow = got(apps, 0).watchRoom("r")[Symbol.asyncIterator]();
  expect((await slow.next()).value?.event.case).toBe("snapshot");
  const pending = slow.next();
  for (let i = 0; i < 1100; i++) hall.say(`m${i}`);
  hall.seat("ada");
  await settle();
  await pending;
  const next = (await slow.next()).value;
  expect(next?.event).toMatchObject({ case: "snapshot", value: { reason: SnapshotReason.FELL_BEHIND } });
  await slow.return?.();
});

test("so is who does not from a cursor of one's own", async () => {
  const { hall, tabs, apps } = await world(1);
  for (let i = 0; i < 1_000; i++) hall.say(`m${i}`);
  const slow = got(apps, 0).watchRoom("r", { cursor: "c1" })[Symbol.asyncIterator]();
  expect((await slow.next()).value?.event).toMatchObject({ case: "resumed", value: { replayed: 999 } });
  await settle();
  for (let i = 1; i < 1_000; i++) expect((await slow.next()).value?.event.value).toMatchObject({ text: `m${i}` });
  for (let i = 0; i < 1_100; i++) hall.say(`n${i}`);
  hall.seat("ada");
  await got(tabs, 0).pass(1_000);
  hall.say("later");
  await settle();
  expect((await slow.next()).value?.event).toMatchObject({ case: "snapshot", value: { participants: [{ user: { id: "ada" } }] } });
  expect((await slow.next()).value?.event.value).toMatchObject({ text: "later" });
  await slow.return?.();
});

test("a stream that is over is none, also while nobody has taken its end", async () => {
  const { hall, apps, readers } = await world(1);
  const slow = got(apps, 0).watchRoom("r", { cursor: "c0" })[Symbol.asyncIterator]();
  await slow.next();
  hall.tell({ case: "roomClosed", value: { roomId: "r", roomVersion: 2n } });
  await settle();
  expect([got(readers, 0).ended, got(apps, 0).connection.current]).toEqual(["yes", { status: "idle" }]);
  await slow.return?.();
});

test("a closed room's snapshot is the end", async () => {
  const { hall, apps } = await world(1);
  const line = got(hall.open, 0);
  line.send(hall.event("c1", { case: "snapshot", value: { room: aRoom("r", { status: RoomStatus.CLOSED }) } }));
  await settle();
  expect(got(apps, 0).connection.current).toEqual({ status: "idle" });
});
