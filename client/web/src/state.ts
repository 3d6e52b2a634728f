// What is known from the events of a stream so far: a snapshot, and the events applied to it.
//
// Each event makes new objects of what it changes and leaves the others alone, so that an application may compare by
// identity what it has to draw anew.

import { create } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { SnapshotReason } from "./gen/free2talk/v1/event_pb.js";
import type { Presence } from "./gen/free2talk/v1/presence_pb.js";
import {
  ConnectResponseSchema,
  WatchPresenceResponseSchema,
  type ConnectResponse,
  type WatchPresenceResponse,
} from "./gen/free2talk/v1/presence_service_pb.js";
import { Level, ParticipantRole, RoomStatus, type Participant, type Room } from "./gen/free2talk/v1/room_pb.js";
import {
  WatchRoomResponseSchema,
  WatchRoomsResponseSchema,
  type WatchRoomResponse,
  type WatchRoomsResponse,
} from "./gen/free2talk/v1/room_service_pb.js";
import type { LobbyFilter } from "./types.js";

/** Gap is thrown where an event does not follow on what is known, which a stream promises not to happen. */
export class Gap extends Error {
  override name = "Gap";
}

/** Reducer is what a stream's events make. */
export interface Reducer<E> {
  /** Takes the next event of the stream. Throws {@link Gap}, and changes nothing, where one was missed before it. */
  apply(event: E): void;
  /** The state as one event that replaces everything before it; undefined before the first snapshot. */
  snapshot(reason: SnapshotReason): E | undefined;
}

type RoomEvent = WatchRoomResponse | ConnectResponse;

/** RoomState is a room as the events of its stream have told it: what GetRoom answers at the same version. */
export class RoomState implements Reducer<WatchRoomResponse> {
  /** The room; undefined before the first snapshot. */
  room: Room | undefined;
  /** Who sits in it, longest seated first. */
  participants: readonly Participant[] = [];

  apply(event: WatchRoomResponse): void {
    if (event.event.case === "snapshot") this.replace(event.event.value.room, event.event.value.participants);
    else this.change(event);
  }

  snapshot(reason: SnapshotReason): WatchRoomResponse | undefined {
    if (!this.room) return undefined;
    const value = { reason, room: this.room, participants: [...this.participants] };
    return create(WatchRoomResponseSchema, { event: { case: "snapshot", value } });
  }

  /** @internal */
  replace(room: Room | undefined, participants: readonly Participant[]): void {
    this.room = room;
    this.participants = participants;
  }

  /** @internal Applies an event of the room that is no snapshot. */
  change({ event, time }: RoomEvent): void {
    switch (event.case) {
      case "participantJoined": {
        const { participant, roomVersion } = event.value;
        return this.advance(roomVersion, () => [{}, participant ? [...this.participants, participant] : this.participants]);
      }
      case "participantLeft": {
        const { userId, roomVersion } = event.value;
        return this.advance(roomVersion, () => [{}, this.participants.filter((p) => p.user?.id !== userId)]);
      }
      case "participantUpdated": {
        const { participant, roomVersion } = event.value;
        return this.advance(roomVersion, (room) => this.update(room, participant));
      }
      case "ownerChanged": {
        const { userId, roomVersion } = event.value;
        return this.advance(roomVersion, (room) => this.hand(room, userId, time));
      }
      case "roomUpdated": {
        const { room } = event.value;
        return room && this.advance(room.version, () => [room, this.participants]);
      }
      case "roomClosed": {
        const at = time ? { closedAt: time, updatedAt: time } : {};
        return this.advance(event.value.roomVersion, () => [{ status: RoomStatus.CLOSED, ...at }, this.participants]);
      }
    }
  }

  private advance(version: bigint, change: (room: Room) => [Partial<Room>, readonly Participant[]]): void {
    const { room } = this;
    if (room?.version !== version - 1n) throw new Gap(`version ${version} of the room follows ${room?.version}`);
    const [changed, participants] = change(room);
    this.participants = participants;
    this.room = { ...room, ...changed, version, participantCount: participants.length };
  }

  private update(room: Room, fresh: Participant | undefined): [Partial<Room>, readonly Participant[]] {
    const user = fresh?.user;
    if (!user) return [{}, this.participants];
    const participants = this.participants.map((p) => (p.user?.id === user.id ? fresh : p));
    return [room.owner?.id === user.id ? { owner: user } : {}, participants];
  }

  /** hand gives the room to another participant, which counts as an update of it. */
  private hand(room: Room, owner: string, when: Timestamp | undefined): [Partial<Room>, readonly Participant[]] {
    let user = room.owner;
    const participants = this.participants.map((p) => {
      const role = p.user?.id === owner ? ParticipantRole.OWNER : ParticipantRole.MEMBER;
      if (role === ParticipantRole.OWNER) user = p.user;
      return p.role === role ? p : { ...p, role };
    });
    return [{ ...(user && { owner: user }), ...(when && { updatedAt: when }) }, participants];
  }
}

/** PersonalState is what a personal stream keeps up to date: the user's own presence and the room that they sit in. */
export class PersonalState implements Reducer<ConnectResponse> {
  /** The user's own presence as the last snapshot had it; undefined before the first. */
  presence: Presence | undefined;
  private readonly seat = new RoomState();

  /** The room that the user sits in; undefined where there is none. */
  get room(): Room | undefined {
    return this.seat.room;
  }

  /** Who sits in it, longest seated first. */
  get participants(): readonly Participant[] {
    return this.seat.participants;
  }

  apply(event: ConnectResponse): void {
    const { event: e } = event;
    if (e.case === "snapshot") {
      this.presence = e.value.presence;
      this.seat.replace(e.value.room, e.value.participants);
    } else if (roomOf(event) === this.room?.id && this.room) {
      this.seat.change(event);
    }
  }

  snapshot(reason: SnapshotReason): ConnectResponse | undefined {
    if (!this.presence) return undefined;
    const value = {
      reason,
      presence: this.presence,
      participants: [...this.participants],
      ...(this.room && { room: this.room }),
    };
    return create(ConnectResponseSchema, { event: { case: "snapshot", value } });
  }
}

/** roomOf is the id of the room that an event is about. */
function roomOf({ event }: ConnectResponse): string | undefined {
  if (event.case === "roomUpdated") return event.value.room?.id;
  return event.value && "roomId" in event.value ? event.value.roomId : undefined;
}

/** LobbyState is the open rooms that a filter finds. */
export class LobbyState implements Reducer<WatchRoomsResponse> {
  /** The rooms by their ids; the same map as long as it lives. */
  readonly rooms = new Map<string, Room>();
  /** Whether the first snapshot is here. */
  ready = false;

  constructor(private readonly filter: LobbyFilter = {}) {}

  apply({ event }: WatchRoomsResponse): void {
    switch (event.case) {
      case "snapshot":
        return this.replace(event.value.rooms);
      case "roomCreated":
      case "roomUpdated":
        if (event.value.room) this.put(event.value.room);
        return;
      case "roomClosed":
        this.rooms.delete(event.value.roomId);
    }
  }

  snapshot(reason: SnapshotReason): WatchRoomsResponse | undefined {
    if (!this.ready) return undefined;
    const value = { reason, rooms: [...this.rooms.values()], last: true };
    return create(WatchRoomsResponseSchema, { event: { case: "snapshot", value } });
  }

  private replace(rooms: readonly Room[]): void {
    this.rooms.clear();
    for (const room of rooms) this.rooms.set(room.id, room);
    this.ready = true;
  }

  /** put takes a room as it is now; one that has stopped to match the filter was sent for the last time. */
  private put(room: Room): void {
    if ((this.rooms.get(room.id)?.version ?? 0n) > room.version) return;
    if (finds(this.filter, room)) this.rooms.set(room.id, room);
    else this.rooms.delete(room.id);
  }
}

function finds({ language, level }: LobbyFilter, room: Room): boolean {
  const wanted = language && canonical(language);
  return (
    (!wanted || room.languages.some((tag) => tag === wanted || tag.startsWith(`${wanted}-`))) &&
    (!level || room.level === level || room.level === Level.ANY)
  );
}

/** canonical spells a tag as the server does: `iw` is `he`. */
function canonical(tag: string): string {
  try {
    return (Intl.getCanonicalLocales(tag)[0] ?? tag).toLowerCase();
  } catch {
    return tag.toLowerCase(); // not a tag; the server says so
  }
}

/** PresenceState is whether the users that a stream was asked for are there. */
export class PresenceState implements Reducer<WatchPresenceResponse> {
  /** The presences by the users' ids; the same map as long as it lives. */
  readonly presences = new Map<string, Presence>();
  private ready = false;

  apply({ event }: WatchPresenceResponse): void {
    if (event.case === "snapshot") {
      this.presences.clear();
      for (const presence of event.value.presences) this.presences.set(presence.userId, presence);
      this.ready = true;
    } else if (event.case === "presenceChanged" && event.value.presence) {
      this.presences.set(event.value.presence.userId, event.value.presence);
    }
  }

  snapshot(reason: SnapshotReason): WatchPresenceResponse | undefined {
    if (!this.ready) return undefined;
    const value = { reason, presences: [...this.presences.values()] };
    return create(WatchPresenceResponseSchema, { event: { case: "snapshot", value } });
  }
}
