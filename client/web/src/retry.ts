// Which failures pass by themselves, and how long to wait for that.

import { Code, ConnectError } from "@connectrpc/connect";
import { isNetworkError, reasonOf, retryAfter } from "./errors.js";
import type { Platform } from "./platform.js";

const base = 100;
/** The longest wait that is begun where the server asks for none. */
export const longest = 5_000;
const mostTries = 3;

/** backoff is a random time that grows with the failures in a row: full jitter, so that not everybody comes at once. */
export function backoff(platform: Platform, failures: number): number {
  return platform.random() * Math.min(base * 2 ** Math.min(failures, 10), longest);
}

/**
 * retryDelay says whether a call that failed for the `tries`-th time is to be made again, and after how many
 * milliseconds. Calls that read or are idempotent are, where the server is away; others only where it says BUSY, since
 * then nothing happened: of everything else it is not known whether it did.
 */
export function retryDelay(platform: Platform, error: unknown, idempotent: boolean, tries: number): number | undefined {
  if (tries >= mostTries || !(error instanceof ConnectError)) return undefined;
  const away = error.code === Code.Unavailable || isNetworkError(error);
  if (!away || !(idempotent || reasonOf(error) === "BUSY")) return undefined;
  const told = retryAfter(error);
  if (told === undefined) return backoff(platform, tries);
  // A little more: the others were told the same.
  return told > longest ? undefined : told + (platform.random() * told) / 10;
}

/** passing says whether a stream that ended with this error may go on later. */
export function passing(error: unknown): boolean {
  switch (ConnectError.from(error).code) {
    case Code.Unavailable:
    case Code.DeadlineExceeded:
    case Code.Canceled:
    case Code.Unknown:
    case Code.Internal:
    case Code.Aborted:
      return true;
    case Code.ResourceExhausted:
      return retryAfter(error) !== undefined || reasonOf(error) === "SLOW_CONSUMER";
    default:
      return false;
  }
}

/** expired says whether a newer access token may help: it ran out, or the server's keys are others now. */
export function expired(error: unknown): boolean {
  const reason = reasonOf(error);
  return reason === "TOKEN_EXPIRED" || reason === "TOKEN_INVALID";
}

/** over is the reason for which a session has ended for good, or undefined. */
export function over(error: unknown): string | undefined {
  const reason = reasonOf(error);
  return reason === "SESSION_REVOKED" || reason === "REFRESH_INVALID" || reason === "REFRESH_REUSED" ? reason : undefined;
}
