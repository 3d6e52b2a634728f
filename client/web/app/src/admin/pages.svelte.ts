// A list that comes a page at a time.

import { complain } from "../problems";

/** Page is one page, and where the next one begins; "" on the last. */
export interface Page<T> {
  items: readonly T[];
  next: string;
}

/** Pages is what has been fetched of a list. */
export class Pages<T> {
  items = $state.raw<readonly T[]>();
  next = $state("");
  failed = $state.raw<unknown>();
  busy = $state(false);

  private turn = 0;

  constructor(private readonly fetch: (token: string) => Promise<Page<T>>) {}

  /** start fetches the first page. */
  start(): Promise<void> {
    return this.load("", []);
  }

  /** more fetches the next one. */
  more(): Promise<void> {
    return this.load(this.next, this.items ?? []);
  }

  /** change puts others in the place of some items; undefined takes them away. */
  change(item: T, other: T | undefined): void {
    this.items = this.items?.flatMap((one) => (one === item ? (other === undefined ? [] : [other]) : [one]));
  }

  private async load(token: string, before: readonly T[]): Promise<void> {
    const turn = ++this.turn;
    this.busy = true;
    try {
      const page = await this.fetch(token);
      if (turn !== this.turn) return; // asked for something else meanwhile
      this.items = [...before, ...page.items];
      this.next = page.next;
      this.failed = undefined;
    } catch (error) {
      if (turn !== this.turn) return;
      if (before.length > 0) complain(error);
      else this.failed = error;
    } finally {
      if (turn === this.turn) this.busy = false;
    }
  }
}
