// What the end of a session means to the streams that were opened in it, and what their end means to the session.

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import {
  AuthService,
  type ConnectResponse,
  type Free2Talk,
  PresenceService,
  reasonOf,
  RevokeReason,
  RoomService,
  type WatchRoomResponse,
  type WatchRoomsResponse,
} from "@free2talk/client";
import { expect, test } from "vitest";
import { ConnectResponseSchema } from "../src/gen/free2talk/v1/presence_service_pb.js";
import { WatchRoomResponseSchema, WatchRoomsResponseSchema } from "../src/gen/free2talk/v1/room_service_pb.js";
import { aRoom, Browser, Lines, open, settle, Tab, type Without, wire } from "./fakes.js";

const revoked = () => wire(Code.Unauthenticated, "SESSION_REVOKED");
const life = 15 * 60_000;

/** House is a server whose sessions are named by the passwords. */
class House {
  readonly room = new Lines<WatchRoomResponse>();
  readonly lobby = new Lines<WatchRoomsResponse>();
  readonly personal = new Lines<ConnectResponse>();
  now = () => 0;
  /** What comes before the answer to a logout. */
  ending: () => Promise<void> = async () => {};

  readonly routes = (router: ConnectRouter): void => {
    router.service(AuthService, {
      login: ({ password }) => ({
        tokens: { accessToken: password, sessionId: password, accessExpiresAt: timestampFromMs(this.now() + life) },
      }),
      logout: async () => {
        await this.ending();
        return {};
      },
      refresh: () => {
        throw wire(Code.Unauthenticated, "REFRESH_INVALID");
      },
    });
    router.service(RoomService, {
      watchRoom: ({ cursor }, context) =>
        this.room.watch(cursor, context, () => [
          create(WatchRoomResponseSchema, { cursor: "r0", event: { case: "snapshot", value: { room: aRoom("r") } } }),
        ]),
      watchRooms: ({ cursor }, context) =>
        this.lobby.watch(cursor, context, () => [
          cursor ? lobbyEvent(cursor, "resumed", { replayed: 0 }) : lobbyEvent("l0", "snapshot", { rooms: [], last: true }),
        ]),
    });
    router.service(PresenceService, {
      connect: ({ cursor }, context) =>
        this.personal.watch(cursor, context, () => [
          create(ConnectResponseSchema, { cursor: "p0", event: { case: "snapshot", value: { presence: { online: true } } } }),
        ]),
    });
  };
}

const lobbyEvent = (cursor: string, kind: string, value: object) =>
  create(WatchRoomsResponseSchema, { cursor, event: { case: kind, value } } as never);

const farewell = (sessionId: string, reason: RevokeReason) =>
  create(ConnectResponseSchema, { cursor: "p1", event: { case: "sessionRevoked", value: { sessionId, reason } } });

const login = (app: Free2Talk | undefined, session: string) =>
  app?.auth.login({ login: { case: "username", value: "ada" }, password: session });

/** Told is what an iteration brought, shortly, and the reason of its end. */
class Told {
  readonly events: string[] = [];
  ended: unknown;

  constructor(stream: AsyncIterable<{ event: { case: string | undefined } }>) {
    void this.read(stream);
  }

  private async read(stream: AsyncIterable<{ event: { case: string | undefined } }>): Promise<void> {
    try {
      for await (const { event } of stream) this.events.push(event.case ?? "");
      this.ended = "yes";
    } catch (error) {
      this.ended = reasonOf(error) ?? error;
    }
  }
}

/** world has two tabs, in which session s1 was begun. */
async function world(without: Without = {}) {
  const browser = new Browser();
  const tabs: [Tab, Tab] = [browser.tab(without), browser.tab(without)];
  const house = new House();
  house.now = () => tabs[0].now();
  const apps: [Free2Talk, Free2Talk] = [open(tabs[0], house.routes), open(tabs[1], house.routes)];
  await login(apps[0], "s1");
  await settle();
  const pass = async (ms: number) => void (await Promise.all(tabs.map((tab) => tab.pass(ms))));
  return { house, tabs, apps, pass, states: () => apps.map((app) => app.session.current) };
}

const over = (ended: string) => Array(2).fill({ status: "anonymous", ended });
const goesOn = (sessionId: string) => Array(2).fill({ status: "authenticated", sessionId });

test.each([{}, { locks: true }, { locks: "refused" }] as Without[])("a stream that ends with its session ends that in all tabs: %o", async (without) => {
  const { house, apps, pass, states } = await world(without);
  const told = new Told(apps[1].watchRoom("r"));
  await settle();
  house.room.open[0]?.end(revoked());
  await pass(1_000);
  expect(states()).toEqual(over("SESSION_REVOKED"));
  expect(told.ended).toBe("SESSION_REVOKED");
  expect(house.room.all).toHaveLength(1);
});

test("a stream of an older session says nothing of the one that there is", async () => {
  const { house, apps, pass, states } = await world();
  const lobby = new Told(apps[0].watchRooms());
  const bare = new Told(apps[0].rooms.watchRoom({ roomId: "r" }));
  await settle();
  await login(apps[1], "s2");
  await settle();
  for (const line of [...house.lobby.open, ...house.room.open]) line.end(revoked());
  await pass(2_000);
  expect(states()).toEqual(goesOn("s2"));
  expect([bare.ended, lobby.ended]).toEqual(["SESSION_REVOKED", undefined]);
  expect(house.lobby.all.map((line) => line.by)).toEqual(["s1", "s2"]);
});

test("the personal stream says why a session ended, before any other ends it", async () => {
  const { house, apps, pass, states } = await world();
  const told = [apps[1], apps[0]].map((app) => new Told(app.connect()));
  const lobby = new Told(apps[0].watchRooms());
  await settle();
  house.lobby.open[0]?.end(revoked());
  await pass(200);
  expect(states()).toEqual(goesOn("s1"));
  house.personal.open[0]?.send(farewell("s1", RevokeReason.BANNED));
  house.personal.open[0]?.end(revoked());
  await settle();
  expect(states()).toEqual(over("SESSION_REVOKED"));
  for (const one of told) expect(one).toEqual({ events: ["snapshot", "sessionRevoked"], ended: "SESSION_REVOKED" });
  await pass(1_000);
  expect([lobby.events, house.lobby.all.map((line) => line.by)]).toEqual([["snapshot", "resumed"], ["s1", "nobody"]]);
});

test.each([{}, { locks: true }, { locks: "refused" }] as Without[])("whoever logs out is logged out, though the streams hear of it first: %o", async (without) => {
  const { house, apps, pass } = await world(without);
  const told = new Told(apps[0].connect());
  await settle();
  house.ending = async () => {
    for (const line of house.personal.open) line.end(revoked());
    await settle();
  };
  await apps[0].auth.logout({});
  await pass(1_000);
  expect(apps[0].session.current).toEqual({ status: "anonymous", ended: "LOGGED_OUT" });
  expect(told.ended).toBe("SESSION_REVOKED");
});

test("the lobby goes on without a session when its own was logged out", async () => {
  const { house, apps, pass, states } = await world();
  const lobbies = apps.map((app) => new Told(app.watchRooms()));
  await settle();
  house.ending = async () => house.lobby.open.forEach((line) => line.end(revoked()));
  await apps[1].auth.logout({});
  await pass(1_000);
  expect(states()).toEqual(over("LOGGED_OUT"));
  expect(house.lobby.all.map((line) => [line.by, line.cursor])).toEqual([["s1", ""], ["nobody", "l0"]]);
  house.lobby.open[0]?.send(lobbyEvent("l1", "roomClosed", { roomId: "r" }));
  await settle();
  for (const lobby of lobbies) expect(lobby).toEqual({ events: ["snapshot", "resumed", "roomClosed"], ended: undefined });
});

test("so it does from a cursor of one's own", async () => {
  const { house, apps, pass } = await world();
  const lobby = new Told(apps[0].watchRooms({}, { cursor: "l7" }));
  await settle();
  house.lobby.open[0]?.end(revoked());
  await pass(2_000);
  expect(lobby).toEqual({ events: ["resumed", "resumed"], ended: undefined });
  expect(house.lobby.all.map((line) => [line.by, line.cursor])).toEqual([["s1", "l7"], ["nobody", "l7"]]);
});

test.each<[what: string, end: (app: Free2Talk) => Promise<unknown>]>([
  ["ends", (app) => app.auth.logout({})],
  ["is followed by another", (app) => login(app, "s2") ?? Promise.resolve()],
])("a stream from a cursor of one's own ends when its session %s", async (_, end) => {
  const { house, apps, pass } = await world();
  const told = [apps[0].watchRoom("r", { cursor: "r7" }), apps[0].connect({ cursor: "p7" })].map((stream) => new Told(stream));
  await settle();
  expect([house.room.open.length, house.personal.open.length]).toEqual([1, 1]);
  await end(apps[1]);
  await pass(10_000);
  expect(told.map((one) => one.ended)).toEqual(["SESSION_REVOKED", "SESSION_REVOKED"]);
  expect([...house.room.all, ...house.personal.all].map((line) => [line.by, line.signal.aborted])).toEqual(Array(2).fill(["s1", true]));
  expect(apps[0].connection.current).toEqual({ status: "idle" });
});

test.each<[options: { cursor?: string }]>([[{}], [{ cursor: "r7" }]])("a stream whose token can be renewed no more ends with the reason: %o", async (options) => {
  const { house, apps, pass, states } = await world();
  const told = new Told(apps[0].watchRoom("r", options));
  await settle();
  const watch = house.room.watch.bind(house.room);
  house.room.watch = (cursor, context) => watch(cursor, context, () => { throw wire(Code.Unauthenticated, "TOKEN_EXPIRED"); });
  house.room.open[0]?.end(wire(Code.Unavailable, "DATABASE_UNAVAILABLE"));
  await pass(1_000);
  expect([told.ended, states()]).toEqual(["REFRESH_INVALID", over("REFRESH_INVALID")]);
  expect(house.room.all).toHaveLength(2);
});

test("the lobby goes on when the session cannot be refreshed any more", async () => {
  const { house, apps, tabs, pass, states } = await world();
  const lobby = new Told(apps[0].watchRooms());
  await settle();
  for (let quiet = 0; quiet < life; quiet += 30_000) {
    house.lobby.open[0]?.send(lobbyEvent("l0", "heartbeat", {}));
    await tabs[0].pass(30_000);
  }
  house.lobby.open[0]?.end(wire(Code.Unavailable, "DATABASE_UNAVAILABLE"));
  await pass(2_000);
  expect(states()).toEqual(over("REFRESH_INVALID"));
  expect(lobby).toEqual({ events: ["snapshot", "resumed"], ended: undefined });
  expect(house.lobby.open.map((line) => line.by)).toEqual(["nobody"]);
});

test("a lobby that is ended again and again is opened ever more seldom", async () => {
  const { house, apps, pass } = await world();
  void new Told(apps[0].watchRooms());
  await settle();
  const watch = house.lobby.watch.bind(house.lobby);
  house.lobby.watch = (cursor, context) => watch(cursor, context, () => { throw revoked(); });
  house.lobby.open[0]?.end(revoked());
  await pass(20_000);
  expect(house.lobby.all.length).toBeLessThan(20);
});

test("where locks are refused a visitor follows the lobby, and asks for a lock once", async () => {
  const browser = new Browser();
  const house = new House();
  const lobbies = [1, 2].map(() => new Told(open(browser.tab({ locks: "refused", storage: true }), house.routes).watchRooms()));
  await settle();
  for (const line of house.lobby.open) line.send(lobbyEvent("l1", "roomClosed", { roomId: "r" }));
  await settle();
  expect(browser.refusals).toBeLessThan(20);
  for (const lobby of lobbies) expect(lobby).toEqual({ events: ["snapshot", "roomClosed"], ended: undefined });
});
