// Who is logged in, as the page shows it.

import { type Account, RevokeReason, type SessionState, type User } from "@free2talk/client";
import { i18n } from "../i18n/index.svelte";
import type { Trouble } from "./again";

/** Me is the account that is logged in, if any. */
export class Me {
  account = $state.raw<Account>();
  /** The session that it is logged in by, which is there before it is known whose it is. */
  id = $state<string>();
  /** Whether it is known that somebody is logged in, or that nobody is. */
  settled = $state(false);
  /** Set while that cannot be found out. */
  trouble = $state.raw<Trouble>();
  /** Why the server ended the session, where the personal stream said so. */
  revoked: RevokeReason | undefined;

  get user(): User | undefined {
    return this.account?.user;
  }

  /** put is the profile after a change of it. */
  put(user: User): void {
    if (this.account) this.account = { ...this.account, user };
  }

  /** settle is that it is known who is logged in, or that nobody is. */
  settle(account: Account | undefined): void {
    this.account = account;
    this.settled = true;
    this.trouble = undefined;
  }

  /** clear is nobody. */
  clear(): void {
    this.settle(undefined);
    this.revoked = undefined;
  }

  /** farewell says why a session that there was is over. */
  farewell(state: Extract<SessionState, { status: "anonymous" }>): string {
    const t = i18n.t.account;
    switch (this.revoked) {
      case RevokeReason.PASSWORD:
        return t.endedPassword;
      case RevokeReason.BANNED:
        return t.endedBanned;
      case RevokeReason.ADMIN:
        return t.endedAdmin;
      case RevokeReason.REUSE:
        return t.endedReuse;
      case RevokeReason.LIMIT:
        return t.endedLimit;
    }
    if (state.ended === "REFRESH_REUSED") return t.endedReuse;
    return state.ended === "LOGGED_OUT" ? t.loggedOut : t.sessionEnded;
  }
}
