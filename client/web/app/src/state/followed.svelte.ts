// A stream that the page follows for as long as somebody looks, also where the library has given it up: what does not
// pass by itself passes when somebody mends the server, as a proxy that answers for it during an upgrade.

import { pause, type Trouble } from "./again";

/** Followed is such a stream. */
export class Followed<E> {
  /** Why it stands still, and when it is opened again; unset once something comes. */
  trouble = $state.raw<Trouble>();

  private stop: AbortController | undefined;
  private wake = () => {};

  constructor(
    private readonly open: (signal: AbortSignal) => AsyncIterable<E>,
    private readonly take: (event: E) => void,
  ) {}

  /** begin follows it, unless it is followed already. */
  begin(): void {
    if (this.stop) return;
    this.stop = new AbortController();
    void this.run(this.stop.signal);
  }

  /** end follows it no more. */
  end(): void {
    this.stop?.abort();
    this.stop = undefined;
    this.trouble = undefined;
    this.wake();
  }

  /** again opens it now, where that is waited for. */
  again(): void {
    this.wake();
  }

  private async run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      try {
        for await (const event of this.open(signal)) {
          if (signal.aborted) return;
          failures = 0;
          this.trouble = undefined;
          this.take(event);
        }
        if (!signal.aborted) this.stop = undefined;
        return;
      } catch (error) {
        if (!signal.aborted) await this.wait(error, failures++);
      }
    }
  }

  private async wait(error: unknown, failures: number): Promise<void> {
    const wait = pause(error, failures);
    this.trouble = { error, until: Date.now() + wait };
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.wake = () => (clearTimeout(timer), resolve());
    });
  }
}
