import { Code, ConnectError } from "@connectrpc/connect";
import { metadataOf, reasonOf, retryAfter, unreachable, violations } from "@free2talk/client";
import { expect, test } from "vitest";
import { plain, refusal, unplain } from "../src/errors.js";
import { errorInfo, violationsOf, wire } from "./fakes.js";

test("a reason and its facts are read", () => {
  const error = wire(Code.FailedPrecondition, "IN_ANOTHER_ROOM", { metadata: { room_id: "r1", more: "" } });
  expect(reasonOf(error)).toBe("IN_ANOTHER_ROOM");
  expect(metadataOf(error)).toEqual({ room_id: "r1", more: "" });
  expect(retryAfter(error)).toBeUndefined();
  expect(violations(error)).toEqual([]);
});

test("reasons of others are not ours", () => {
  const error = new ConnectError("no", Code.Unavailable);
  error.details = [{ type: "google.rpc.ErrorInfo", value: errorInfo("ROOM_FULL", "googleapis.com") }];
  expect(reasonOf(error)).toBeUndefined();
  expect(metadataOf(error)).toEqual({});
  for (const other of [new Error("no"), "no", undefined, null]) {
    expect(reasonOf(other)).toBeUndefined();
    expect(violations(other)).toEqual([]);
    expect(unreachable(other)).toBe(false);
  }
});

test("the time to wait is in milliseconds", () => {
  expect(retryAfter(wire(Code.ResourceExhausted, "RATE_LIMITED", { retryMs: 61_250 }))).toBe(61_250);
  expect(retryAfter(wire(Code.Unavailable, "BUSY", { retryMs: 0 }))).toBe(0);
});

test("violations name fields as the contract does", () => {
  const error = new ConnectError("invalid", Code.InvalidArgument);
  const value = violationsOf(
    { path: ["room", ["languages", 1]], rule: "string.language_tag", message: "must be a language tag" },
    { path: ["password"], rule: "string.min_len", message: "must be at least 8 characters" },
    { path: [], rule: "login.required", message: "exactly one of email, username is needed" },
  );
  error.details = [{ type: "buf.validate.Violations", value }];
  expect(violations(error)).toEqual([
    { field: "room.languages[1]", rule: "string.language_tag", message: "must be a language tag" },
    { field: "password", rule: "string.min_len", message: "must be at least 8 characters" },
    { field: "", rule: "login.required", message: "exactly one of email, username is needed" },
  ]);
});

test("a network that is away is told from a server that says no", () => {
  expect(unreachable(new ConnectError("fetch failed", Code.Unknown, undefined, undefined, new TypeError("fetch failed")))).toBe(true);
  expect(unreachable(wire(Code.Unavailable, "DATABASE_UNAVAILABLE"))).toBe(true);
  expect(unreachable(wire(Code.PermissionDenied, "KICKED"))).toBe(false);
});

test("an error is the same in another tab", () => {
  const error = unplain(structuredClone(plain(wire(Code.PermissionDenied, "KICKED", { metadata: { until: "later" }, retryMs: 5 }))));
  expect([error.code, reasonOf(error), metadataOf(error), retryAfter(error)]).toEqual([
    Code.PermissionDenied,
    "KICKED",
    { until: "later" },
    5,
  ]);
  expect(reasonOf(refusal(Code.Unauthenticated, "SESSION_REVOKED", "over"))).toBe("SESSION_REVOKED");
});
