// When the server is asked again for what the page cannot do without.

import { retryAfter, unreachable } from "@free2talk/client";

/** Trouble is why something is not known, and when the server is asked again, as Date.now. */
export interface Trouble {
  error: unknown;
  until: number;
}

const again = 3_000;
const longest = 60_000; // between attempts, where the server says nothing of when to make them

/** pause is how long to wait before that, after so many failures in a row before this one. */
export function pause(error: unknown, failures: number): number {
  const told = retryAfter(error);
  if (told !== undefined) return Math.max(again, told);
  return unreachable(error) ? again : Math.min(again * 2 ** failures, longest);
}
