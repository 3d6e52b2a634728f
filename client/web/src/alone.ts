// A stream from a cursor of the caller's own, which no other tab can share.

import { follow, type StreamEvent } from "./follow.js";
import { Listener, mostBehind } from "./listener.js";
import type { Kind, Surroundings } from "./shared.js";
import { Gap } from "./state.js";

/** Alone is such a stream, for one iteration. */
export class Alone<E extends StreamEvent> {
  readonly listener = new Listener<E>();
  private readonly stopped = new AbortController();

  constructor(
    readonly key: string,
    private readonly kind: Kind<E>,
    private cursor: string,
    private readonly around: Pick<Surroundings, "platform" | "status" | "renew" | "gone">,
  ) {
    void this.run();
  }

  /** finish ends it, after what was not taken yet. */
  finish(ending: { error?: unknown }): void {
    this.listener.finish(ending);
    if (this.stopped.signal.aborted) return;
    this.stopped.abort();
    this.around.gone();
  }

  private async run(): Promise<void> {
    const { platform, status, renew } = this.around;
    try {
      await follow<E>({
        platform,
        status,
        renew,
        signal: this.stopped.signal,
        open: this.kind.open,
        last: this.kind.last,
        everybody: this.kind.everybody,
        cursor: () => this.cursor,
        opened: () => {},
        take: (event) => this.take(event),
        hurry: platform.onOnline,
      });
      this.finish({});
    } catch (error) {
      this.finish({ error });
    }
  }

  private take(event: E): void {
    if (event.cursor) this.cursor = event.cursor;
    if (event.event.case === "heartbeat") return;
    this.listener.push(event);
    if (this.listener.behind <= mostBehind) return;
    this.listener.skip();
    throw new Gap("nobody takes the events: the state comes in place of them");
  }
}
