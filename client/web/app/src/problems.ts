// What went wrong, in words for people: a sentence for a note, or one for each field of a form.

import { Code, codeOf, metadataOf, type ReasonName, reasonOf, retryAfter, unreachable, type Violation, violations } from "@free2talk/client";
import { ago } from "./format";
import { i18n } from "./i18n/index.svelte";
import type { Messages } from "./i18n/en";
import { toasts } from "./state/toasts.svelte";

/** FieldErrors is what is wrong with a form, by the names of its fields. */
export type FieldErrors = Partial<Record<string, string>>;

type Sentence = { [Key in keyof Messages["errors"]]: Messages["errors"][Key] extends string ? Key : never }[keyof Messages["errors"]];

const sentences: Partial<Record<ReasonName, Sentence>> = {
  BAD_CREDENTIALS: "badCredentials",
  BANNED: "banned",
  EMAIL_TAKEN: "emailTaken",
  USERNAME_TAKEN: "usernameTaken",
  PASSWORD_WEAK: "passwordWeak",
  USERNAME_RESERVED: "usernameReserved",
  SELF: "self",
  USER_NOT_FOUND: "userNotFound",
  ROOM_NOT_FOUND: "roomNotFound",
  SESSION_NOT_FOUND: "sessionNotFound",
  NOT_OWNER: "notOwner",
  NOT_ADMIN: "notAdmin",
  KICKED: "kicked",
  ROOM_FULL: "roomFull",
  ROOM_CLOSED: "roomClosed",
  NOT_IN_ROOM: "notInRoom",
  IN_ANOTHER_ROOM: "inAnotherRoom",
  OWNS_A_ROOM: "ownsARoom",
  VERSION_MISMATCH: "versionMismatch",
  CAPACITY_TAKEN: "capacityTaken",
  BUSY: "busy",
  DATABASE_UNAVAILABLE: "unavailable",
  TOO_MANY_STREAMS: "tooManyStreams",
  BODY_TOO_LARGE: "tooLarge",
  TOKEN_MISSING: "loginAgain",
  SESSION_REVOKED: "loginAgain",
  REFRESH_INVALID: "loginAgain",
  REFRESH_REUSED: "loginAgain",
};

const limits: Partial<Record<string, Sentence>> = {
  message: "limitedMessages",
  room_create: "limitedRooms",
  auth: "limitedLogin",
};

/** explain says in one sentence why a call failed. */
export function explain(error: unknown): string {
  const t = i18n.t.errors;
  const why = reasonOf(error);
  const more = metadataOf(error);
  const until = more.until ? new Date(more.until) : undefined;
  if (why === "RATE_LIMITED") return t[limits[more.policy ?? ""] ?? "limited"];
  if (why === "KICKED" && until) return t.kickedUntil(ago(until));
  if (why === "BANNED" && until) return t.bannedUntil(ago(until));
  const key = why === undefined ? undefined : sentences[why];
  if (key) return t[key];
  if (codeOf(error) === Code.Unimplemented) return t.notOffered;
  if (unreachable(error)) return t.offline;
  return t.unknown;
}

/** retryTime is when the call may be made again, where the server said so. */
export function retryTime(error: unknown): number | undefined {
  const wait = retryAfter(error);
  return wait === undefined ? undefined : Date.now() + wait;
}

/** complain puts up a note of what went wrong. */
export function complain(error: unknown): void {
  toasts.show(explain(error), "bad", { until: retryTime(error) });
}

/** fieldErrors is what the server says of the fields of a form; empty where it says nothing of any. */
export function fieldErrors(error: unknown): FieldErrors {
  const found: FieldErrors = {};
  for (const violation of violations(error)) {
    const name = field(violation);
    found[name] ??= sentence(violation);
  }
  const why = reasonOf(error);
  if (why === "EMAIL_TAKEN") found.email = explain(error);
  if (why === "USERNAME_TAKEN" || why === "USERNAME_RESERVED") found.username = explain(error);
  if (why === "PASSWORD_WEAK") found.password = explain(error);
  if (why === "CAPACITY_TAKEN") found.capacity = explain(error);
  return found;
}

/** field is the last name of a path: `name` of `room.name`, `languages` of `languages[0]`. */
function field(violation: Violation): string {
  return (violation.field.split(".").at(-1) ?? "").replace(/\[.*\]$/, "");
}

/** sentence says a violation in the language of the app; a rule that it does not know, in the server's words. */
function sentence({ rule, message, field: path }: Violation): string {
  const t = i18n.t.fields;
  const n = Number(/\d+/.exec(message)?.[0] ?? 0);
  switch (rule) {
    case "required":
    case "string.email_empty":
      return t.required;
    case "string.visible":
      return t.visible;
    case "string.min_len":
      return n <= 1 ? t.required : t.tooShort(n);
    case "string.max_len":
      return t.tooLong(n);
    case "string.email":
      return t.email;
    case "string.pattern":
      return path.endsWith("username") ? t.username : message;
    case "string.single_line":
    case "string.multi_line":
      return t.oneLine;
    case "string.language_tag":
      return t.language;
    case "repeated.min_items":
      return t.fewItems(n);
    case "repeated.max_items":
      return t.manyItems(n);
    case "repeated.unique":
      return t.twice;
    case "int32.gte":
      return t.atLeast(n);
    case "int32.lte":
      return t.atMost(n);
    case "int32.gte_lte":
      return message;
  }
  return message;
}
