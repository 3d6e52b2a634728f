// One `for await` over a stream.

/** How far an iteration may fall behind before the state comes in place of what it has not taken. */
export const mostBehind = 1024;

/** Listener is a queue between a stream and who iterates over it. */
export class Listener<E> {
  /** Whether it was told the state, and so understands events. */
  started = false;
  private queue: E[] = [];
  private ending: { error?: unknown } | undefined;
  private waiting: (() => void) | undefined;

  /** How much has not been taken yet. */
  get behind(): number {
    return this.queue.length;
  }

  push(event: E): void {
    if (this.ending) return;
    this.queue.push(event);
    this.wake();
  }

  /** skip throws away what was not taken. */
  skip(): void {
    this.queue = [];
  }

  /** finish ends it, after what is queued. */
  finish(ending: { error?: unknown }): void {
    this.ending ??= ending;
    this.wake();
  }

  /** next is the next event; undefined at the end. */
  async next(): Promise<E | undefined> {
    while (this.queue.length === 0 && !this.ending) await new Promise<void>((resolve) => (this.waiting = resolve));
    const event = this.queue.shift();
    if (event === undefined && this.ending?.error !== undefined) throw this.ending.error;
    return event;
  }

  private wake(): void {
    this.waiting?.();
    this.waiting = undefined;
  }
}
