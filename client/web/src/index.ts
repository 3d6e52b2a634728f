// @free2talk/client: the free2talk client for browsers. See README.md.

export { createFree2Talk } from "./client.js";
export type {
  Connection,
  Free2Talk,
  Free2TalkOptions,
  LobbyFilter,
  Observable,
  Session,
  SessionState,
  WatchOptions,
} from "./types.js";
export type { Platform } from "./platform.js";

export { codeOf, metadataOf, reasonOf, retryAfter, unreachable, violations } from "./errors.js";
export type { ReasonName, Violation } from "./errors.js";
export { Code, ConnectError } from "@connectrpc/connect";

export { LobbyState, PersonalState, PresenceState, RoomState } from "./state.js";

// The contract: the messages, their enums and, for `client()` and tests, the services.
export { AuthService } from "./gen/free2talk/v1/auth_service_pb.js";
export { PresenceService } from "./gen/free2talk/v1/presence_service_pb.js";
export { RoomService } from "./gen/free2talk/v1/room_service_pb.js";
export { UserService } from "./gen/free2talk/v1/user_service_pb.js";
export type { Reason } from "./gen/free2talk/v1/error_pb.js";
export { CloseReason, LeaveReason, RevokeReason, SnapshotReason } from "./gen/free2talk/v1/event_pb.js";
export type {
  Kicked,
  MessagePosted,
  SessionRevoked as SessionRevokedEvent,
} from "./gen/free2talk/v1/event_pb.js";
export type { Presence } from "./gen/free2talk/v1/presence_pb.js";
export type { ConnectResponse, WatchPresenceResponse } from "./gen/free2talk/v1/presence_service_pb.js";
export { Level, ParticipantRole, ParticipantState, RoomStatus } from "./gen/free2talk/v1/room_pb.js";
export type { Ban, Participant, Room } from "./gen/free2talk/v1/room_pb.js";
export { OrderBy } from "./gen/free2talk/v1/room_service_pb.js";
export type { WatchRoomResponse, WatchRoomsResponse } from "./gen/free2talk/v1/room_service_pb.js";
export type { Account, Session as DeviceSession, Tokens } from "./gen/free2talk/v1/session_pb.js";
export { Role } from "./gen/free2talk/v1/user_pb.js";
export type { User, UserSummary } from "./gen/free2talk/v1/user_pb.js";
