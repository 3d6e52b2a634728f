// The lobby: every open room, as the stream tells it.
//
// Hundreds of rooms may change in a second, so events are gathered and applied once a frame; each room is a state of
// its own, so that a change writes one card anew and nothing else; and a room keeps its place while people read,
// however many come and go in it: places are given anew every ten seconds, and not while a card is being used.

import type { Level, Room } from "@free2talk/client";
import { matchesLanguage } from "../languages";
import type { LobbyEvent } from "../backend";

/** Sort is the order of the rooms. */
export type Sort = "popular" | "newest";

/** Filter is which rooms are shown, and in which order. Unset finds all. */
export interface Filter {
  language?: string;
  level?: Level;
  query?: string;
  free?: boolean;
  sort: Sort;
}

const levelAny = 1;
const reorderEvery = 10_000;

const fold = (text: string) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

/** Card is one room of the lobby. Its `room` changes; the card itself stays. */
export class Card {
  room: Room;
  /** What its place is reckoned by: how many sat there when places were last given. */
  weight: number;
  private folded: string | undefined;

  constructor(room: Room) {
    this.room = $state.raw(room);
    this.weight = room.participantCount;
  }

  put(room: Room): void {
    this.room = room;
    this.folded = undefined;
  }

  /** text is what a search looks into. */
  get text(): string {
    const { name, topic, owner } = this.room;
    this.folded ??= fold(`${name}\n${topic}\n${owner?.displayName ?? ""}`);
    return this.folded;
  }
}

const opened = (card: Card) => Number(card.room.createdAt?.seconds ?? 0n);
const byId = (a: Card, b: Card) => (a.room.id < b.room.id ? 1 : -1);
const newest = (a: Card, b: Card) => opened(b) - opened(a) || byId(a, b);
const popular = (a: Card, b: Card) => b.weight - a.weight || newest(a, b);

/** shows says whether a room passes a filter; the rules are those of ListRooms. */
export function shows(card: Card, filter: Filter, query = fold(filter.query?.trim() ?? "")): boolean {
  const { room } = card;
  if (filter.language && !matchesLanguage(room.languages, filter.language)) return false;
  if (filter.level && room.level !== filter.level && room.level !== levelAny) return false;
  if (filter.free && room.participantCount >= room.capacity) return false;
  return query === "" || card.text.includes(query);
}

/** Lobby applies the events and keeps the list of what is shown. */
export class Lobby {
  /** What is shown, in order. */
  shown = $state.raw<readonly Card[]>([]);
  /** How many rooms pass the filter. */
  count = $state(0);
  /** The languages spoken in them, with in how many, most first. */
  languages = $state.raw<readonly (readonly [tag: string, rooms: number])[]>([]);
  /** Whether there is something to show: the first rooms, or the first snapshot. */
  ready = $state(false);

  /** Resolves when there is. */
  readonly arrived: Promise<void>;
  private arrive = () => {};

  private filter: Filter = { sort: "popular" };
  private cards = new Map<string, Card>();
  private fresh: Map<string, Card> | undefined; // a snapshot that is still arriving
  private later = 0; // how many rooms are open that only the snapshot will bring
  private queue: LobbyEvent[] = [];
  private scheduled = false;
  private lastOrder = 0;
  private busy = () => false;

  constructor() {
    this.arrived = new Promise((resolve) => (this.arrive = resolve));
  }

  /** use says when places must stay as they are. */
  use(busy: () => boolean): void {
    this.busy = busy;
  }

  /** choose sets another filter. */
  choose(filter: Filter): void {
    this.filter = filter;
    this.order();
    this.list();
  }

  /** begin shows the first rooms of so many, before the stream brings all of them. */
  begin(rooms: readonly Room[], open: number): void {
    if (this.ready) return;
    for (const room of rooms) this.cards.set(room.id, new Card(room));
    this.later = Math.max(0, open - rooms.length);
    this.start();
    this.list();
  }

  /** take queues an event of the stream until the next frame; before the first snapshot is here there is nothing to spare. */
  take(event: LobbyEvent): void {
    this.queue.push(event);
    if (!this.ready) return this.flush();
    if (this.scheduled) return;
    this.scheduled = true;
    // A page in the background has no frames, and would gather events for ever.
    if (document.hidden) setTimeout(() => this.flush(), 250);
    else requestAnimationFrame(() => this.flush());
  }

  /** flush applies what is queued. */
  flush(): void {
    this.scheduled = false;
    const events = this.queue;
    this.queue = [];
    let changed = false;
    for (const event of events) changed = this.apply(event) || changed;
    if (Date.now() - this.lastOrder > reorderEvery && !this.busy()) {
      this.order();
      changed = true;
    }
    if (changed) this.list();
  }

  /** apply says whether the list is another one after the event. */
  private apply(event: LobbyEvent): boolean {
    switch (event.event.case) {
      case "snapshot":
        return this.replace(event.event.value.rooms, event.event.value.last);
      case "roomCreated":
      case "roomUpdated":
        return event.event.value.room ? this.put(event.event.value.room) : false;
      case "roomClosed":
        return this.cards.delete(event.event.value.roomId);
      default:
        return false;
    }
  }

  private put(room: Room): boolean {
    const card = this.cards.get(room.id);
    if (!card) {
      this.cards.set(room.id, new Card(room));
      return true;
    }
    if (card.room.version > room.version) return false;
    const before = shows(card, this.filter);
    const spoken = card.room.languages.join();
    card.put(room);
    return before !== shows(card, this.filter) || spoken !== room.languages.join();
  }

  private replace(rooms: readonly Room[], last: boolean): boolean {
    this.fresh ??= new Map();
    for (const room of rooms) {
      const card = this.cards.get(room.id);
      card?.put(room);
      this.fresh.set(room.id, card ?? new Card(room));
    }
    if (!last) return false;
    this.cards = this.fresh;
    this.fresh = undefined;
    this.later = 0;
    this.start();
    return true;
  }

  private start(): void {
    this.ready = true;
    this.arrive();
    this.order();
  }

  private order(): void {
    this.lastOrder = Date.now();
    for (const card of this.cards.values()) card.weight = card.room.participantCount;
  }

  private list(): void {
    const query = fold(this.filter.query?.trim() ?? "");
    const shown: Card[] = [];
    const spoken = new Map<string, number>();
    for (const card of this.cards.values()) {
      for (const tag of card.room.languages) {
        const base = tag.split("-")[0] ?? tag;
        spoken.set(base, (spoken.get(base) ?? 0) + 1);
      }
      if (shows(card, this.filter, query)) shown.push(card);
    }
    shown.sort(this.filter.sort === "newest" ? newest : popular);
    this.count = shown.length + (shown.length === this.cards.size ? this.later : 0);
    this.shown = shown;
    this.languages = [...spoken].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  }
}
