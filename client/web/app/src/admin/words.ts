// What the server's values are called.

import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { dateTime, toDate } from "../format";
import { messages } from "./messages.svelte";

/** banText says until when; a ban for good ends in the year 9999. */
export function banText(until: Timestamp): string {
  const end = toDate(until);
  return end.getUTCFullYear() >= 9999 ? messages.t.bannedForGood : messages.t.bannedUntil(dateTime(end));
}
