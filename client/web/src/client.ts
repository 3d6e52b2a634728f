// The client, put together.

import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { authorize } from "./chain.js";
import { AuthService } from "./gen/free2talk/v1/auth_service_pb.js";
import { PresenceService } from "./gen/free2talk/v1/presence_service_pb.js";
import { RoomService } from "./gen/free2talk/v1/room_service_pb.js";
import { UserService } from "./gen/free2talk/v1/user_service_pb.js";
import { browser } from "./platform.js";
import { Keeper } from "./session.js";
import { Streams } from "./streams.js";
import type { Free2Talk, Free2TalkOptions } from "./types.js";

/**
 * createFree2Talk makes a client. A page needs one; all tabs of the same origin and server share its session and its
 * streams.
 */
export function createFree2Talk(options: Free2TalkOptions = {}): Free2Talk {
  const platform = options.platform ?? browser();
  const keep = options.keep ?? "cookie";
  const baseUrl = (options.baseUrl ?? globalThis.location?.origin ?? "").replace(/\/+$/, "");
  const transport = transportOf(options, baseUrl);

  const bare = createClient(AuthService, transport([]));
  const keeper = new Keeper({
    platform,
    keep,
    scope: baseUrl,
    async refresh(refreshToken) {
      let date: string | null = null;
      const { tokens } = await bare.refresh({ refreshToken }, { onHeader: (header) => (date = header.get("Date")) });
      return { tokens, date };
    },
  });
  const full = transport([authorize(keeper, platform, keep)]);
  const client = <S extends DescService>(service: S): Client<S> => createClient(service, full);
  const rooms = client(RoomService);
  const presence = client(PresenceService);
  const streams = new Streams({ platform, keeper, rooms, presence, scope: baseUrl });

  return {
    auth: client(AuthService),
    users: client(UserService),
    rooms,
    presence,
    client,
    session: keeper,
    connection: streams.connection,
    watchRoom: (roomId, watch) => streams.room(roomId, watch),
    watchRooms: (filter, watch) => streams.lobby(filter, watch),
    connect: (watch) => streams.personal(watch),
    watchPresence: (userIds, watch) => streams.presence(userIds, watch),
    close() {
      streams.close();
      keeper.close();
    },
  };
}

/** transportOf makes transports with the library's interceptors around the application's. */
function transportOf(options: Free2TalkOptions, baseUrl: string): (ours: Interceptor[]) => Transport {
  const theirs = options.interceptors ?? [];
  const { transport } = options;
  if (transport) return (ours) => transport([...ours, ...theirs]);
  const credentials = options.keep === "memory" ? "omit" : "include";
  return (ours) =>
    createConnectTransport({
      baseUrl,
      useBinaryFormat: options.format !== "json",
      defaultTimeoutMs: options.timeoutMs ?? 10_000,
      interceptors: [...ours, ...theirs],
      fetch: (input, init) => (options.fetch ?? globalThis.fetch)(input, { ...init, credentials }),
    });
}
