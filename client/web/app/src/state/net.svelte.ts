// Whether the live connection is there. A break that mends itself in a moment is nobody's concern.

import type { Connection } from "@free2talk/client";
import { api } from "../backend";
import { i18n } from "../i18n/index.svelte";
import { toasts } from "./toasts.svelte";

const patience = 2_500;

/** Net is how the connection is. */
export class Net {
  /** Whether it has been broken for longer than a moment. */
  lost = $state(false);
  /** Whether the browser itself says that there is no network. */
  offline = $state(false);

  private timer: ReturnType<typeof setTimeout> | undefined;

  /** start follows the connection for as long as the page lives. */
  start(): void {
    api.connection.subscribe((connection) => this.take(connection));
    const look = () => (this.offline = !navigator.onLine);
    addEventListener("online", look);
    addEventListener("offline", look);
    look();
  }

  private take(connection: Connection): void {
    if (connection.status === "reconnecting") {
      const wait = connection.since + patience - Date.now();
      this.timer ??= setTimeout(() => (this.lost = true), Math.max(0, wait));
      return;
    }
    if (connection.status === "connecting") return;
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.lost && connection.status === "open") toasts.show(i18n.t.net.back, "good");
    this.lost = false;
  }
}
