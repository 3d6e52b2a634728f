import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Level, LobbyState, ParticipantRole, PersonalState, PresenceState, RoomState, RoomStatus } from "@free2talk/client";
import { expect, test } from "vitest";
import { CloseReason, LeaveReason, SnapshotReason } from "../src/gen/free2talk/v1/event_pb.js";
import { ConnectResponseSchema, WatchPresenceResponseSchema } from "../src/gen/free2talk/v1/presence_service_pb.js";
import { WatchRoomResponseSchema, WatchRoomsResponseSchema } from "../src/gen/free2talk/v1/room_service_pb.js";
import { Gap } from "../src/state.js";
import { aRoom, somebody } from "./fakes.js";

const at = timestampFromMs(1_700_000_100_000);
const roomEvent = (event: unknown) => create(WatchRoomResponseSchema, { time: at, event } as never);
const lobbyEvent = (event: unknown) => create(WatchRoomsResponseSchema, { event } as never);

function seated(): RoomState {
  const state = new RoomState();
  const ada = somebody("ada", ParticipantRole.OWNER);
  const room = aRoom("r", { owner: ada.user, participantCount: 2 });
  state.apply(roomEvent({ case: "snapshot", value: { room, participants: [ada, somebody("bo")] } }));
  return state;
}

test("a room is what its events say", () => {
  const state = seated();
  state.apply(roomEvent({ case: "participantJoined", value: { participant: somebody("cy"), roomVersion: 2n } }));
  state.apply(roomEvent({ case: "messagePosted", value: { text: "hola" } }));
  state.apply(roomEvent({ case: "ownerChanged", value: { userId: "bo", previousUserId: "ada", roomVersion: 3n } }));
  state.apply(roomEvent({ case: "participantLeft", value: { userId: "ada", reason: LeaveReason.LEFT, roomVersion: 4n } }));
  const renamed = somebody("bo", ParticipantRole.OWNER);
  if (renamed.user) renamed.user.displayName = "Bo!";
  state.apply(roomEvent({ case: "participantUpdated", value: { participant: renamed, roomVersion: 5n } }));

  expect(state.room).toMatchObject({ version: 5n, participantCount: 2, owner: { id: "bo", displayName: "Bo!" }, updatedAt: at });
  expect(state.participants.map((p) => [p.user?.displayName, p.role])).toEqual([
    ["Bo!", ParticipantRole.OWNER],
    ["cy", ParticipantRole.MEMBER],
  ]);

  state.apply(roomEvent({ case: "roomUpdated", value: { room: aRoom("r", { version: 6n, name: "another" }) } }));
  expect(state.room).toMatchObject({ name: "another", version: 6n, participantCount: 2 });
  state.apply(roomEvent({ case: "roomClosed", value: { reason: CloseReason.BY_OWNER, roomVersion: 7n } }));
  expect(state.room).toMatchObject({ status: RoomStatus.CLOSED, closedAt: at, version: 7n });
});

test("what an event does not change stays the same object", () => {
  const state = seated();
  const [ada, bo] = state.participants;
  const before = state.room;
  state.apply(roomEvent({ case: "participantJoined", value: { participant: somebody("cy"), roomVersion: 2n } }));
  expect(state.participants[0]).toBe(ada);
  expect(state.participants[1]).toBe(bo);
  expect(state.room).not.toBe(before);
});

test("a missed event is told, and changes nothing", () => {
  const state = seated();
  for (const roomVersion of [1n, 3n]) {
    expect(() => state.apply(roomEvent({ case: "participantLeft", value: { userId: "bo", roomVersion } }))).toThrow(Gap);
  }
  expect(() => new RoomState().apply(roomEvent({ case: "participantLeft", value: { userId: "bo", roomVersion: 1n } }))).toThrow(Gap);
  expect(state.participants).toHaveLength(2);
});

test("a snapshot of the state makes the same state", () => {
  const state = seated();
  state.apply(roomEvent({ case: "participantJoined", value: { participant: somebody("cy"), roomVersion: 2n } }));
  const copy = new RoomState();
  const snapshot = state.snapshot(SnapshotReason.HEALED);
  if (snapshot) copy.apply(snapshot);
  expect([copy.room, copy.participants]).toEqual([state.room, state.participants]);
  expect(new RoomState().snapshot(SnapshotReason.HEALED)).toBeUndefined();
});

test("the lobby holds what its filter finds", () => {
  const state = new LobbyState({ language: "ES", level: Level.BEGINNER });
  const rooms = [aRoom("a", { level: Level.BEGINNER }), aRoom("b", { level: Level.ANY, languages: ["en", "es-mx"] })];
  state.apply(lobbyEvent({ case: "snapshot", value: { rooms, last: true } }));
  state.apply(lobbyEvent({ case: "roomCreated", value: { room: aRoom("c", { level: Level.BEGINNER }) } }));
  state.apply(lobbyEvent({ case: "roomUpdated", value: { room: aRoom("a", { level: Level.ADVANCED, version: 2n }) } }));
  state.apply(lobbyEvent({ case: "roomUpdated", value: { room: aRoom("b", { level: Level.ANY, version: 0n, name: "older" }) } }));
  expect([...state.rooms.keys()]).toEqual(["b", "c"]);
  expect(state.rooms.get("b")?.name).toBe("room b");
  state.apply(lobbyEvent({ case: "roomClosed", value: { roomId: "b" } }));
  expect(state.snapshot(SnapshotReason.STARTED)?.event.value).toMatchObject({ rooms: [{ id: "c" }], last: true });
});

test("the personal state follows into the next room", () => {
  const state = new PersonalState();
  const event = (e: unknown) => state.apply(create(ConnectResponseSchema, { time: at, event: e } as never));
  event({ case: "snapshot", value: { presence: { userId: "ada", online: true } } });
  expect([state.room, state.presence?.online]).toEqual([undefined, true]);
  event({ case: "participantLeft", value: { roomId: "old", userId: "bo", roomVersion: 9n } });
  event({ case: "snapshot", value: { presence: { userId: "ada", roomId: "r" }, room: aRoom("r"), participants: [somebody("ada")] } });
  event({ case: "participantJoined", value: { roomId: "r", participant: somebody("bo"), roomVersion: 2n } });
  event({ case: "participantJoined", value: { roomId: "other", participant: somebody("cy"), roomVersion: 7n } });
  expect(state.participants.map((p) => p.user?.id)).toEqual(["ada", "bo"]);
  expect(state.snapshot(SnapshotReason.STARTED)?.event.value).toMatchObject({ room: { version: 2n } });
});

test("presences are the last that was told", () => {
  const state = new PresenceState();
  const event = (e: unknown) => state.apply(create(WatchPresenceResponseSchema, { event: e } as never));
  event({ case: "snapshot", value: { presences: [{ userId: "ada", online: true }, { userId: "bo" }] } });
  event({ case: "presenceChanged", value: { presence: { userId: "bo", online: true } } });
  expect([...state.presences.values()].map((p) => p.online)).toEqual([true, true]);
});
