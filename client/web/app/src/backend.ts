// The one client of the app. Everything that it says to the server goes through here.

import {
  type ConnectResponse,
  createFree2Talk,
  type WatchRoomResponse,
  type WatchRoomsResponse,
} from "@free2talk/client";
import { fromBinary } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type ListRoomsResponse, ListRoomsResponseSchema } from "@free2talk/client/gen/free2talk/v1/room_service_pb";

/** api is the server that this page came from. */
export const api = createFree2Talk();

/** LobbyEvent is what the lobby's stream brings. */
export type LobbyEvent = WatchRoomsResponse;

/** RoomEvent is what tells of a room, on its own stream or on the personal one. */
export interface RoomEvent {
  event: WatchRoomResponse["event"] | ConnectResponse["event"];
  time?: Timestamp | undefined;
}

/**
 * What the server has the browser ask for together with this script, where somebody comes to the lobby (`firstRooms` in
 * server/app.go): the first page of rooms, by a GET of Connect's (https://connectrpc.com/docs/protocol#unary-get-request).
 */
const first = "/free2talk.v1.RoomService/ListRooms?connect=v1&encoding=proto&base64=1&message=";

/** firstRooms is what came of it. It rejects where that was not the rooms. */
export async function firstRooms(): Promise<ListRoomsResponse> {
  const reply = await fetch(first);
  if (!reply.ok) throw new Error(`the first rooms: ${reply.status}`);
  return fromBinary(ListRoomsResponseSchema, new Uint8Array(await reply.arrayBuffer()));
}
