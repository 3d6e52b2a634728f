// One room as its events tell it, and what was said in it.

import {
  type CloseReason,
  LeaveReason,
  type Participant,
  ParticipantRole,
  ParticipantState,
  type Room,
  RoomStatus,
  type User,
  type UserSummary,
} from "@free2talk/client";
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
      what: Happening;
      name: string;
      time: Date;
    };

/** Happening is what may have happened in a room; the messages have a sentence for each. */
export type Happening = "joined" | "left" | "leftKicked" | "leftLost" | "nowOwner";

const mostNotes = 500;

const parting: Partial<Record<LeaveReason, Happening>> = {
  [LeaveReason.LEFT]: "left",
  [LeaveReason.KICKED]: "leftKicked",
  [LeaveReason.BANNED]: "leftKicked",
  [LeaveReason.DISCONNECTED]: "leftLost",
};

/** LiveRoom is a room that is shown: its state as the library keeps it, and what was said and done meanwhile. */
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

  /** replace puts a state in the place of this one, unless it is older; the conversation stays. */
  replace(room: Room, people: readonly Participant[]): void {
    if (room.version < this.room.version) return;
    this.room = room;
    this.people = people;
  }

  /** hear writes down what an event says; the people are still those from before it. */
  hear({ event, time }: RoomEvent): void {
    const when = time ? toDate(time) : new Date();
    switch (event.case) {
      case "participantJoined":
        return this.tell("joined", event.value.participant?.user, when);
      case "participantLeft":
        return this.tell(parting[event.value.reason], this.find(event.value.userId), when);
      case "ownerChanged":
        return this.tell("nowOwner", this.find(event.value.userId), when);
      case "roomClosed":
        this.closed = event.value.reason;
        return;
      case "messagePosted":
        return this.post(event.value.messageId, event.value.sender, event.value.text, when);
    }
  }

  /** say puts a message of one's own into the conversation before the server has it. */
  say(id: string, { id: userId, username, displayName, avatarUrl }: User, text: string): void {
    const sender: UserSummary = { $typeName: "free2talk.v1.UserSummary", id: userId, username, displayName, avatarUrl };
    this.note({ kind: "message", id, sender, text, time: new Date(), state: "sending" });
  }

  /** mark says how it went with a message of one's own. */
  mark(id: string, state: "sent" | "sending" | "failed"): void {
    this.notes = this.notes.map((n) => (n.kind === "message" && n.id === id && n.state !== "sent" ? { ...n, state } : n));
  }

  private post(id: string, sender: UserSummary | undefined, text: string, time: Date): void {
    if (!sender) return;
    const note: Note = { kind: "message", id, sender, text, time, state: "sent" };
    if (this.notes.some((n) => n.id === id)) this.notes = this.notes.map((n) => (n.id === id ? note : n));
    else this.note(note);
  }

  private find(id: string): UserSummary | undefined {
    return this.people.find((p) => p.user?.id === id)?.user;
  }

  private tell(what: Happening | undefined, who: UserSummary | undefined, time: Date): void {
    if (what && who) this.note({ kind: "event", id: `event ${this.eventIds++}`, what, name: who.displayName, time });
  }

  private note(note: Note): void {
    this.notes = [...this.notes, note].slice(-mostNotes);
  }
}

/** reconnecting is whether somebody's connection is broken just now. */
export const reconnecting = (person: Participant) => person.state === ParticipantState.RECONNECTING;
