// One room as its events tell it, and what was said in it.

import {
  CloseReason,
  LeaveReason,
  type Participant,
  ParticipantRole,
  ParticipantState,
  type Room,
  RoomStatus,
  type UserSummary,
} from "@free2talk/client";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { RoomEvent } from "../backend";
import { toDate } from "../format";

/** Note is a line of the conversation: a message, or something that happened. */
export type Note =
  | {
      kind: "message";
      id: string;
      sender: UserSummary;
      text: string;
      time: Date;
      state: "sent" | "sending" | "failed";
    }
  | {
      kind: "event";
      id: string;
      what: "joined" | "left" | "leftKicked" | "leftLost" | "nowOwner";
      name: string;
      time: Date;
    };

const mostNotes = 500;

/** LiveRoom is the state of a room. Apply its events in order. */
export class LiveRoom {
  room: Room;
  people: readonly Participant[];
  notes = $state.raw<readonly Note[]>([]);
  /** Why it is over; unset while it is open, and where nobody said. */
  closed = $state<CloseReason>();

  private eventIds = 0;

  constructor(room: Room, people: readonly Participant[]) {
    this.room = $state.raw(room);
    this.people = $state.raw(people);
  }

  /** over is whether the room is closed. */
  get over(): boolean {
    return this.room.status === RoomStatus.CLOSED;
  }

  /** owner is the id of who runs the room. */
  get owner(): string | undefined {
    return this.people.find((p) => p.role === ParticipantRole.OWNER)?.user?.id ?? this.room.owner?.id;
  }

  /** replace puts a whole state in the place of this one; the conversation stays. */
  replace(room: Room, people: readonly Participant[]): void {
    if (room.version < this.room.version) return;
    this.room = room;
    this.people = people;
  }

  /** apply changes the state by one event of this room; what it does not know it skips. */
  apply({ event, time }: RoomEvent): void {
    const when = time ? toDate(time) : new Date();
    switch (event.case) {
      case "participantJoined":
        return this.join(event.value.participant, event.value.roomVersion, when);
      case "participantLeft":
        return this.part(event.value.userId, event.value.reason, event.value.roomVersion, when);
      case "participantUpdated":
        return this.update(event.value.participant, event.value.roomVersion);
      case "ownerChanged":
        return this.hand(event.value.userId, event.value.roomVersion, when);
      case "roomUpdated":
        if (event.value.room && event.value.room.version >= this.room.version) this.room = event.value.room;
        return;
      case "roomClosed":
        return this.close(event.value.reason, event.value.roomVersion, time);
      case "messagePosted":
        return this.hear(event.value.messageId, event.value.sender, event.value.text, when);
    }
  }

  /** say puts a message of one's own into the conversation before the server has it. */
  say(id: string, sender: UserSummary, text: string): void {
    this.note({ kind: "message", id, sender, text, time: new Date(), state: "sending" });
  }

  /** mark says how it went with a message of one's own. */
  mark(id: string, state: "sent" | "sending" | "failed"): void {
    this.notes = this.notes.map((n) => (n.kind === "message" && n.id === id && n.state !== "sent" ? { ...n, state } : n));
  }

  private hear(id: string, sender: UserSummary | undefined, text: string, time: Date): void {
    if (!sender) return;
    const known = this.notes.some((n) => n.id === id);
    if (known) this.notes = this.notes.map((n) => (n.id === id ? { kind: "message", id, sender, text, time, state: "sent" } : n));
    else this.note({ kind: "message", id, sender, text, time, state: "sent" });
  }

  private join(participant: Participant | undefined, version: bigint, time: Date): void {
    if (!participant?.user || version <= this.room.version) return;
    this.people = [...this.people, participant];
    this.advance(version);
    this.tell("joined", participant.user.displayName, time);
  }

  private part(user: string, reason: LeaveReason, version: bigint, time: Date): void {
    if (version <= this.room.version) return;
    const who = this.people.find((p) => p.user?.id === user)?.user;
    this.people = this.people.filter((p) => p.user?.id !== user);
    this.advance(version);
    if (!who) return;
    if (reason === LeaveReason.KICKED || reason === LeaveReason.BANNED) this.tell("leftKicked", who.displayName, time);
    else if (reason === LeaveReason.DISCONNECTED) this.tell("leftLost", who.displayName, time);
    else if (reason === LeaveReason.LEFT) this.tell("left", who.displayName, time);
  }

  private update(fresh: Participant | undefined, version: bigint): void {
    if (!fresh?.user || version <= this.room.version) return;
    const user = fresh.user;
    this.people = this.people.map((p) => (p.user?.id === user.id ? fresh : p));
    this.advance(version, this.room.owner?.id === user.id ? { owner: user } : {});
  }

  private hand(owner: string, version: bigint, time: Date): void {
    if (version <= this.room.version) return;
    this.people = this.people.map((p) => ({
      ...p,
      role: p.user?.id === owner ? ParticipantRole.OWNER : ParticipantRole.MEMBER,
    }));
    const user = this.people.find((p) => p.user?.id === owner)?.user;
    this.advance(version, user ? { owner: user } : {});
    if (user) this.tell("nowOwner", user.displayName, time);
  }

  private close(reason: CloseReason, version: bigint, time: Timestamp | undefined): void {
    if (version < this.room.version) return;
    this.closed = reason;
    this.people = [];
    this.advance(version, { status: RoomStatus.CLOSED, ...(time && { closedAt: time }) });
  }

  private advance(version: bigint, more: Partial<Room> = {}): void {
    this.room = { ...this.room, ...more, version, participantCount: this.people.length };
  }

  private tell(what: Extract<Note, { kind: "event" }>["what"], name: string, time: Date): void {
    this.note({ kind: "event", id: `event ${this.eventIds++}`, what, name, time });
  }

  private note(note: Note): void {
    this.notes = [...this.notes, note].slice(-mostNotes);
  }
}

/** reconnecting is whether somebody's connection is broken just now. */
export const reconnecting = (person: Participant) => person.state === ParticipantState.RECONNECTING;
