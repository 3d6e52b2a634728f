// What stands between the typed clients and the transport: the token, a refresh where it ran out, retries where they
// are safe, and what the answers say of the session.

import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import {
  ConnectError,
  type Interceptor,
  type StreamRequest,
  type StreamResponse,
  type UnaryRequest,
  type UnaryResponse,
} from "@connectrpc/connect";
import { AuthService } from "./gen/free2talk/v1/auth_service_pb.js";
import { PresenceService } from "./gen/free2talk/v1/presence_service_pb.js";
import type { Tokens } from "./gen/free2talk/v1/session_pb.js";
import { type Platform, wait } from "./platform.js";
import { expired, over, retryDelay } from "./retry.js";
import type { Held, Keeper } from "./session.js";

/** How long the personal stream, which says why, has to end its session before another stream of it does. */
const headStart = 1_000;

const { connect } = PresenceService.method;
const { register, login, refresh, logout, logoutAll, changePassword, deleteAccount } = AuthService.method;

/** Methods that the server answers without looking at an access token. */
const ignoreToken = new Set<unknown>([register, login, refresh]);
/** Methods that change the cookie. */
const changeCookie = new Set<unknown>([register, login, logout, logoutAll, changePassword, deleteAccount]);
/** Methods that end the session that they are called in. */
const endSession = new Set<unknown>([logout, logoutAll, deleteAccount]);

type Next = (req: UnaryRequest) => Promise<UnaryResponse>;
type NextStream = (req: StreamRequest) => Promise<StreamResponse>;

/** authorize is the interceptor that does all of it. */
export function authorize(keeper: Keeper, platform: Platform, keep: "cookie" | "memory"): Interceptor {
  return (next) => async (req) => {
    const anonymous = req.header.has("Authorization") || ignoreToken.has(req.method);
    const held = anonymous ? undefined : await keeper.fresh();
    if (req.stream) return stream(keeper, next as NextStream, req, held);
    if (req.method === register || req.method === login) (req.message as { cookie?: boolean }).cookie = keep === "cookie";
    return call(keeper, platform, next as Next, req, held);
  };
}

/** stream opens one, which outlives its token; its end may be that of the session. Who follows it opens it again. */
async function stream(keeper: Keeper, next: NextStream, req: StreamRequest, held: Held | undefined) {
  bear(req.header, held);
  const heed = async (error: unknown): Promise<never> => {
    const ended = held && over(error);
    if (ended) await keeper.lost(held.sessionId, ended, req.method === connect ? 0 : headStart);
    throw error;
  };
  const res = await next(req).catch(heed);
  return { ...res, message: heeded(res.message, heed) };
}

async function* heeded<T>(messages: AsyncIterable<T>, heed: (error: unknown) => Promise<never>): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    await heed(error);
  }
}

/** call makes attempts until one succeeds or fails for good. */
async function call(keeper: Keeper, platform: Platform, next: Next, req: UnaryRequest, held: Held | undefined) {
  const idempotent = req.method.idempotency !== MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN;
  let renewed = false;
  for (let tries = 1; ; ) {
    try {
      return await attempt(keeper, next, req, held);
    } catch (error) {
      if (held && !renewed && expired(error)) {
        renewed = true;
        held = await keeper.renew(held);
        if (held) continue;
      }
      const delay = retryDelay(platform, error, idempotent, tries++);
      if (delay === undefined || req.signal.aborted) throw error;
      await wait(platform, delay, req.signal);
    }
  }
}

/** attempt calls once, and takes from the answer what it means for the session. */
function attempt(keeper: Keeper, next: Next, req: UnaryRequest, held: Held | undefined): Promise<UnaryResponse> {
  bear(req.header, held);
  const once = async () => {
    try {
      const res = await next(req);
      learn(keeper, req, res, held);
      return res;
    } catch (error) {
      const ended = held && over(error);
      if (ended) keeper.end(held.sessionId, ended);
      throw ConnectError.from(error);
    }
  };
  return changeCookie.has(req.method) ? keeper.exclusively(once) : once();
}

function learn(keeper: Keeper, req: UnaryRequest, res: UnaryResponse, held: Held | undefined): void {
  if (endSession.has(req.method)) keeper.end(held?.sessionId, "LOGGED_OUT");
  const { tokens } = res.message as { tokens?: Tokens };
  if (tokens && (held || ignoreToken.has(req.method))) keeper.begin(tokens, res.header.get("Date"));
}

function bear(header: Headers, held: Held | undefined): void {
  if (held) header.set("Authorization", `Bearer ${held.access}`);
}
