// Why a call failed, for programs.
//
// The three details that the server sends are read field by field: their schemas would cost a page more than this.

import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Reason } from "./gen/free2talk/v1/error_pb.js";

/** ReasonName is a reason of the contract: `ROOM_FULL`. A server newer than this package may give others. */
export type ReasonName = Exclude<keyof typeof Reason, "UNSPECIFIED"> | (string & {});

/** Violation is one field of a request that was not valid. */
export interface Violation {
  /** The path in the contract's spelling, such as `room.languages[1]`; empty for the request as a whole. */
  readonly field: string;
  /** The rule that it breaks, such as `string.min_len`; for programs that have sentences of their own. */
  readonly rule: string;
  /** What is wrong, for people, in English. */
  readonly message: string;
}

/** reasonOf says why a call failed, or undefined where the server gave no reason: see {@link violations}, {@link codeOf}. */
export function reasonOf(error: unknown): ReasonName | undefined {
  return info(error)?.reason || undefined;
}

/** metadataOf returns the facts that came with the reason, such as `room_id` with IN_ANOTHER_ROOM. */
export function metadataOf(error: unknown): Readonly<Record<string, string>> {
  return info(error)?.metadata ?? {};
}

/** codeOf is the kind of failure; `Code.Unknown` for what is no error of a call. */
export function codeOf(error: unknown): Code {
  return error instanceof ConnectError ? error.code : Code.Unknown;
}

/** retryAfter is how many milliseconds the server asks to wait before the call is made again; undefined: it says nothing. */
export function retryAfter(error: unknown): number | undefined {
  const value = detail(error, "google.rpc.RetryInfo");
  if (!value) return undefined;
  let ms: number | undefined;
  fields(value, {
    1: (r) => {
      let seconds = 0;
      let nanos = 0;
      fields(r.bytes(), { 1: (d) => (seconds = Number(d.int64())), 2: (d) => (nanos = d.int32()) });
      ms = Math.max(0, seconds * 1000 + nanos / 1e6);
    },
  });
  return ms;
}

/** violations says what was wrong with a request, field by field; empty where nothing was. */
export function violations(error: unknown): Violation[] {
  const found: Violation[] = [];
  const value = detail(error, "buf.validate.Violations");
  if (value) fields(value, { 1: (r) => found.push(violation(r.bytes())) });
  return found;
}

/** unreachable says whether the server was not reached, or could not serve just now: the same again may do later. */
export function unreachable(error: unknown): boolean {
  if (!(error instanceof ConnectError)) return false;
  // What fetch throws where there is no network has no code of its own.
  return error.code === Code.Unavailable || error.code === Code.DeadlineExceeded || isNetworkError(error);
}

/** isNetworkError says whether fetch itself failed: nothing came back. */
export function isNetworkError(error: ConnectError): boolean {
  return error.cause instanceof TypeError && (error.code === Code.Unknown || error.code === Code.Internal);
}

/** refusal makes an error with a reason, as the server would. @internal */
export function refusal(code: Code, reason: ReasonName, message: string): ConnectError {
  const error = new ConnectError(message, code);
  const value = new BinaryWriter();
  value.uint32((1 << 3) | WireType.LengthDelimited).string(reason);
  value.uint32((2 << 3) | WireType.LengthDelimited).string("free2talk");
  error.details = [{ type: "google.rpc.ErrorInfo", value: value.finish() }];
  return error;
}

/** Plain is an error of a call in a shape that travels between tabs. @internal */
export interface Plain {
  readonly code: Code;
  readonly message: string;
  readonly details: readonly { type: string; value: Uint8Array }[];
}

/** plain is an error without what does not travel. @internal */
export function plain(error: unknown): Plain {
  const { code, rawMessage, details } = ConnectError.from(error);
  const travels = details.flatMap((d) => ("type" in d && "value" in d ? [{ type: d.type, value: d.value }] : []));
  return { code, message: rawMessage, details: travels };
}

/** unplain is the error again. @internal */
export function unplain({ code, message, details }: Plain): ConnectError {
  const error = new ConnectError(message, code);
  error.details = details.map((d) => ({ ...d }));
  return error;
}

function violation(bytes: Uint8Array): Violation {
  let field = "";
  let rule = "";
  let message = "";
  fields(bytes, {
    5: (r) => (field = path(r.bytes())),
    2: (r) => (rule = r.string()),
    3: (r) => (message = r.string()),
  });
  return { field, rule, message };
}

/** path spells a buf.validate.FieldPath as protovalidate does. */
function path(bytes: Uint8Array): string {
  const parts: string[] = [];
  const element = (e: Uint8Array) => {
    let name = "";
    let subscript: string | undefined;
    fields(e, {
      2: (r) => (name = r.string()),
      6: (r) => (subscript = String(r.uint64())),
      7: (r) => (subscript = String(r.bool())),
      8: (r) => (subscript = String(r.int64())),
      9: (r) => (subscript = String(r.uint64())),
      10: (r) => (subscript = JSON.stringify(r.string())),
    });
    parts.push(subscript === undefined ? name : `${name}[${subscript}]`);
  };
  fields(bytes, { 1: (r) => element(r.bytes()) });
  return parts.join(".");
}

function info(error: unknown): { reason: string; metadata: Record<string, string> } | undefined {
  const value = detail(error, "google.rpc.ErrorInfo");
  if (!value) return undefined;
  let reason = "";
  let domain = "";
  const metadata: Record<string, string> = {};
  const entry = (e: Uint8Array) => {
    let key = "";
    let text = "";
    fields(e, { 1: (r) => (key = r.string()), 2: (r) => (text = r.string()) });
    metadata[key] = text;
  };
  fields(value, { 1: (r) => (reason = r.string()), 2: (r) => (domain = r.string()), 3: (r) => entry(r.bytes()) });
  return domain === "free2talk" ? { reason, metadata } : undefined;
}

/** detail is the encoded detail of that type in an error of a call. */
function detail(error: unknown, type: string): Uint8Array | undefined {
  if (!(error instanceof ConnectError)) return undefined;
  for (const d of error.details) if ("value" in d && "type" in d && d.type === type) return d.value;
  return undefined;
}

/** fields calls, for each field of an encoded message, the reader of its number; others are skipped. */
function fields(bytes: Uint8Array, read: Record<number, (r: BinaryReader) => unknown>): void {
  const r = new BinaryReader(bytes);
  while (r.pos < r.len) {
    const [number, wire]: [number, WireType] = r.tag();
    const reader = read[number];
    if (reader) reader(r);
    else r.skip(wire, number);
  }
}
