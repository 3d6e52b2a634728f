// Short notes at the edge of the page: what has happened, and what went wrong.

/** Tone is how a note looks and how urgently it is read out. */
export type Tone = "plain" | "good" | "bad";

/** Toast is one note. */
export interface Toast {
  id: number;
  tone: Tone;
  text: string;
  /** When the person may try again, as a time; the note then counts down to it. */
  until?: number | undefined;
  action?: { label: string; run: () => void } | undefined;
}

const stays = 6_000;

class Toasts {
  list = $state.raw<Toast[]>([]);
  private next = 1;
  private timers = new Map<number, ReturnType<typeof setTimeout>>();

  /** show puts up a note. One that says the same goes. */
  show(text: string, tone: Tone = "plain", more: Pick<Toast, "until" | "action"> = {}): number {
    const id = this.next++;
    this.list = [...this.list.filter((t) => t.text !== text), { id, tone, text, ...more }].slice(-4);
    this.start(id);
    return id;
  }

  /** drop takes a note away. */
  drop(id: number): void {
    clearTimeout(this.timers.get(id));
    this.timers.delete(id);
    this.list = this.list.filter((t) => t.id !== id);
  }

  /** hold keeps all notes while somebody reads them. */
  hold(): void {
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
  }

  /** release lets them go in their time. */
  release(): void {
    for (const { id } of this.list) this.start(id);
  }

  private start(id: number): void {
    const toast = this.list.find((t) => t.id === id);
    if (!toast) return;
    const wait = Math.max(toast.tone === "bad" ? stays * 1.6 : stays, (toast.until ?? 0) - Date.now() + 2_000);
    clearTimeout(this.timers.get(id));
    this.timers.set(id, setTimeout(() => this.drop(id), Math.min(wait, 60_000)));
  }
}

/** toasts are the notes that are up. */
export const toasts = new Toasts();
