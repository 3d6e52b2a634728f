// The one client of the app. Everything that it says to the server goes through here.

import {
  type ConnectResponse,
  createFree2Talk,
  type WatchRoomResponse,
  type WatchRoomsResponse,
} from "@free2talk/client";
import type { Timestamp } from "@bufbuild/protobuf/wkt";

/** api is the server that this page came from. */
export const api = createFree2Talk();

/** LobbyEvent is what the lobby's stream brings. */
export type LobbyEvent = WatchRoomsResponse;

/** RoomEvent is what tells of a room, on its own stream or on the personal one. */
export interface RoomEvent {
  event: WatchRoomResponse["event"] | ConnectResponse["event"];
  time?: Timestamp | undefined;
}
