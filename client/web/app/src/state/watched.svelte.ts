// A room that one looks at without sitting in it.

import { reasonOf, type Room, RoomState } from "@free2talk/client";
import { api } from "../backend";
import { app } from "./app.svelte";
import { LiveRoom } from "./room.svelte";

/** Watched finds a room by its slug and follows it, for as long as somebody looks. */
export class Watched {
  live = $state.raw<LiveRoom>();
  missing = $state(false);
  problem = $state.raw<unknown>();

  private tries = $state(0);

  constructor(private readonly slug: string) {}

  /** again starts over after a problem. */
  again(): void {
    this.problem = undefined;
    this.tries++;
  }

  /** follow begins; it returns how to stop. */
  follow(): () => void {
    void this.tries; // starting over runs the effect anew
    const stop = new AbortController();
    void this.run(stop.signal);
    return () => stop.abort();
  }

  private async run(signal: AbortSignal): Promise<void> {
    try {
      const { room, participants } = await api.rooms.getRoom({ key: { case: "slug", value: this.slug } }, { signal });
      if (!room || signal.aborted) return;
      this.live = new LiveRoom(room, participants);
      if (app.session.user) await this.watch(room, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (reasonOf(error) === "ROOM_NOT_FOUND") this.missing = true;
      else this.problem = error;
    }
  }

  // Only who is logged in may watch; others see the room as it was when they came.
  private async watch(room: Room, signal: AbortSignal): Promise<void> {
    try {
      const state = new RoomState();
      for await (const event of api.watchRoom(room.id, { signal })) {
        if (signal.aborted) return;
        this.live?.hear(event);
        state.apply(event);
        if (state.room) this.live?.replace(state.room, state.participants);
      }
    } catch (error) {
      // Who was kicked sees the room as it was, and when they may come back.
      if (!signal.aborted && !app.noteKick(room.id, error)) throw error;
    }
  }
}
