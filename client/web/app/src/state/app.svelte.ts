// What the whole app knows: who one is, where one sits, the lobby, and how the connection is.

import {
  type ConnectResponse,
  LeaveReason,
  metadataOf,
  type Participant,
  PersonalState,
  reasonOf,
  type Room,
  RoomStatus,
  type SessionState,
  SnapshotReason,
  unreachable,
} from "@free2talk/client";
import { SvelteMap } from "svelte/reactivity";
import { api, firstRooms, type LobbyEvent } from "../backend";
import { toDate } from "../format";
import { i18n } from "../i18n/index.svelte";
import { complain } from "../problems";
import { router } from "../router.svelte";
import { pause } from "./again";
import { Followed } from "./followed.svelte";
import { Lobby } from "./lobby.svelte";
import { Net } from "./net.svelte";
import { LiveRoom } from "./room.svelte";
import { Me } from "./session.svelte";
import { toasts } from "./toasts.svelte";

/** Kick is that one cannot come back to a room for a while. */
export interface Kick {
  until: Date;
  reason: string;
}

const lingers = 60_000; // the lobby's stream, after one has turned to another page
const atOnce = 150;

class App {
  readonly session = new Me();
  readonly lobby = new Lobby();
  /** What keeps the lobby up to date. */
  readonly lobbyStream = new Followed(
    (signal) => this.openLobby(signal),
    (event) => this.lobby.take(event),
  );
  readonly net = new Net();

  /** The room that one sits in; one that has closed stays until one sits down elsewhere. */
  seat = $state.raw<LiveRoom>();
  /** The rooms that one was put out of, by their ids. */
  readonly kicks = new SvelteMap<string, Kick>();
  /** Whether the dialog that opens a room is open. */
  creating = $state(false);

  /** Resolves when the page is on the screen for the first time. */
  readonly drawn: Promise<void>;
  private draws = () => {};
  private opening: Promise<void> | undefined; // what the lobby's stream waits for

  private personal: AbortController | undefined;
  private listening: Promise<void> = Promise.resolve(); // until the personal stream is over
  private lobbyTimer: ReturnType<typeof setTimeout> | undefined;
  private leaving = false;

  constructor() {
    this.drawn = new Promise((resolve) => (this.draws = resolve));
  }

  /** start begins everything that goes on for as long as the page lives. */
  start(): void {
    this.net.start();
    api.session.subscribe((state) => void this.report(this.follow(state)));
    void this.restore();
    // The rooms are asked for before the page is drawn; the page goes on following them.
    if (router.route.page !== "lobby") return;
    const first = location.pathname === "/" && !location.search;
    if (first) void this.begin();
    this.rooms = Promise.race([this.lobby.arrived, new Promise<void>((late) => setTimeout(late, atOnce))]);
    if (first) this.opening = this.rooms.then(() => (this.lobby.ready ? this.drawn : undefined));
    this.watchLobby()();
  }

  // Nobody misses the first rooms where they cannot be had: the stream brings all.
  private async begin(): Promise<void> {
    const page = await this.quietly(firstRooms);
    if (page) this.lobby.begin(page.rooms, page.totalSize);
  }

  /**
   * rooms resolves when the rooms are here, or do not come at once: drawing takes long on a slow machine, and would hold up
   * the lock by which one tab asks for them, and the answer; and then there would be all of them to draw.
   */
  rooms: Promise<void> = Promise.resolve();

  /** draw begins what is asked for once the page is there, for whatever is asked for takes its time from drawing. */
  draw(): void {
    const drawn = () => setTimeout(this.draws);
    if (document.hidden) drawn(); // there are no frames
    else requestAnimationFrame(drawn);
  }

  /** report puts up a note where something fails that nobody waits for. That it is over the session tells itself. */
  async report(work: Promise<unknown>): Promise<void> {
    try {
      await work;
    } catch (error) {
      if (reasonOf(error) !== "SESSION_REVOKED") complain(error);
    }
  }

  /** quietly is for what is nice to have: undefined where it cannot be had. */
  async quietly<T>(call: () => Promise<T>): Promise<T | undefined> {
    try {
      return await call();
    } catch {
      return undefined;
    }
  }

  // Whose connection is down at the start is not logged out: the question is asked again.
  private async restore(): Promise<void> {
    try {
      await api.session.restore();
    } catch (error) {
      if (!unreachable(error)) complain(error);
      setTimeout(() => void this.restore(), pause(error, 0));
    }
  }

  private async follow(state: SessionState): Promise<void> {
    if (state.status === "unknown") return;
    if (state.status === "authenticated") {
      if (state.sessionId !== this.session.id) await this.enter(state.sessionId);
      return;
    }
    await this.part(state);
  }

  private async part(state: Extract<SessionState, { status: "anonymous" }>): Promise<void> {
    const { personal } = this;
    await this.listening; // what the personal stream says last is why
    if (this.personal !== personal) return; // somebody has logged in meanwhile
    const was = this.session.id !== undefined;
    this.session.id = undefined;
    this.seat = undefined;
    this.kicks.clear();
    if (was && state.ended !== undefined) toasts.show(this.session.farewell(state));
    this.session.clear();
  }

  /** begun resolves when the account that has just logged in is there, or cannot be had at once. */
  async begun(): Promise<void> {
    const state = api.session.current;
    if (state.status === "authenticated" && state.sessionId !== this.session.id) await this.enter(state.sessionId);
    await this.entering;
  }

  private entering: Promise<void> = Promise.resolve();

  private enter(sessionId: string): Promise<void> {
    this.session.id = sessionId;
    this.personal?.abort();
    this.personal = new AbortController();
    this.session.settled = false;
    this.listening = this.listen(this.personal.signal);
    this.entering = this.load(sessionId);
    return this.entering;
  }

  // Whatever it is that fails, the session is there: the question is asked until it is answered.
  private async load(sessionId: string, failures = 0): Promise<void> {
    if (sessionId !== this.session.id) return;
    try {
      const { account } = await api.auth.getMe({});
      if (sessionId === this.session.id) this.session.settle(account);
    } catch (error) {
      if (sessionId !== this.session.id) return;
      const wait = pause(error, failures);
      this.session.trouble = { error, until: Date.now() + wait };
      setTimeout(() => void this.load(sessionId, failures + 1), wait);
    }
  }

  private async listen(signal: AbortSignal): Promise<void> {
    try {
      const known = new PersonalState();
      for await (const event of api.connect({ signal })) {
        if (signal.aborted) return;
        this.take(event, known);
      }
    } catch (error) {
      // The end of the session is told by the session itself.
      if (!signal.aborted && api.session.current.status === "authenticated") complain(error);
    }
  }

  private take(event: ConnectResponse, known: PersonalState): void {
    const { event: what } = event;
    const mine = this.session.user?.id;
    if (this.seat?.room.id === roomOf(event)) this.seat?.hear(event);
    known.apply(event);
    if (what.case === "snapshot") return this.settle(what.value.reason, known);
    if (known.room && known.room.id === this.seat?.room.id) this.seat.replace(known.room, known.participants);
    switch (what.case) {
      case "kicked":
        return this.kicked(what.value.roomId, what.value.reason, what.value.until ? toDate(what.value.until) : new Date());
      case "sessionRevoked":
        if (what.value.sessionId === this.session.id) this.session.revoked = what.value.reason;
        return;
      case "participantLeft":
        if (what.value.userId === mine && what.value.reason === LeaveReason.DISCONNECTED) this.loseSeat();
        return;
      case "ownerChanged":
        if (what.value.userId === mine) toasts.show(i18n.t.room.youOwn, "good");
    }
  }

  private settle(reason: SnapshotReason, { room, participants }: PersonalState): void {
    if (room) return this.sit(room, participants);
    if (!this.seat || this.seat.over) return;
    if (!this.leaving && reason === SnapshotReason.ROOM_CHANGED) void this.quietly(() => this.wonder(this.seat));
    else if (!this.leaving) this.loseSeat();
    this.seat = undefined;
  }

  // The stream may say that one sits nowhere before it says that the room has closed.
  private async wonder(seat: LiveRoom | undefined): Promise<void> {
    if (!seat) return;
    const { room } = await api.rooms.getRoom({ key: { case: "id", value: seat.room.id } });
    if (room?.status === RoomStatus.CLOSED) toasts.show(i18n.t.room.closedNote(room.name));
  }

  private loseSeat(): void {
    if (!this.seat || this.seat.over) return;
    toasts.show(i18n.t.room.lostSeat(this.seat.room.name), "bad");
    this.seat = undefined;
  }

  private kicked(roomId: string, reason: string, until: Date): void {
    this.kicks.set(roomId, { reason, until });
    const name = this.seat?.room.id === roomId ? this.seat.room.name : undefined;
    if (name !== undefined) this.seat = undefined;
    const text = name === undefined ? i18n.t.room.kickedTitle : i18n.t.room.kickedFrom(name);
    toasts.show(reason ? `${text} ${i18n.t.room.kickedReason(reason)}` : text, "bad");
  }

  /** noteKick remembers that a room refused one for a kick; false where that is not what the error says. */
  noteKick(roomId: string, error: unknown): boolean {
    const { until } = metadataOf(error);
    if (reasonOf(error) !== "KICKED" || !until) return false;
    this.kicks.set(roomId, { reason: this.kicks.get(roomId)?.reason ?? "", until: new Date(until) });
    return true;
  }

  /** sit is that one sits in a room, in this state. */
  sit(room: Room, people: readonly Participant[]): void {
    this.kicks.delete(room.id);
    if (this.seat?.room.id === room.id && !this.seat.over) this.seat.replace(room, people);
    else this.seat = new LiveRoom(room, people);
  }

  /** join takes a seat, and leaves another room where asked to. */
  async join(roomId: string, leaveCurrent: boolean): Promise<void> {
    const { room, participants } = await api.rooms.joinRoom({ roomId, leaveCurrent });
    if (room) this.sit(room, participants);
  }

  /** leave gives the seat back. */
  async leave(roomId: string): Promise<void> {
    this.leaving = true;
    try {
      await api.rooms.leaveRoom({ roomId });
      if (this.seat?.room.id === roomId) this.seat = undefined;
    } finally {
      this.leaving = false;
    }
  }

  /** say posts a message; with the id of one that was not sent, it sends that again, and nobody reads it twice. */
  async say(live: LiveRoom, text: string, resend?: string): Promise<void> {
    const user = this.session.user;
    if (!user) return;
    const id = resend ?? newId();
    if (resend) live.mark(id, "sending");
    else live.say(id, user, text);
    try {
      await api.rooms.sendMessage({ roomId: live.room.id, text, messageId: id });
      live.mark(id, "sent");
    } catch (error) {
      live.mark(id, "failed");
      complain(error);
    }
  }

  /** logOut ends the session. */
  async logOut(): Promise<void> {
    await this.report(api.auth.logout({}));
    router.go("/");
  }

  /** watchLobby follows the lobby, until the function that it returns is called. */
  watchLobby(): () => void {
    clearTimeout(this.lobbyTimer);
    this.lobbyStream.begin();
    return () => {
      this.lobbyTimer = setTimeout(() => this.lobbyStream.end(), lingers);
    };
  }

  private async *openLobby(signal: AbortSignal): AsyncGenerator<LobbyEvent> {
    await this.opening;
    yield* api.watchRooms({}, { signal });
  }
}

/** roomOf is the id of the room that an event is about, if it is about one. */
function roomOf({ event }: ConnectResponse): string | undefined {
  if (event.case === "roomUpdated") return event.value.room?.id;
  return event.value && "roomId" in event.value ? event.value.roomId : undefined;
}

/** newId is a UUID. `crypto.randomUUID` is not there in pages over plain HTTP, other than of this machine. */
function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** app is what the whole app knows. */
export const app = new App();
