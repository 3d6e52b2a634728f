// How the service is doing, asked for again and again while somebody looks, and kept for the plots.

import type { GetStatsResponse } from "@free2talk/client/gen/free2talk/admin/v1/admin_service_pb";
import { retryAfter } from "@free2talk/client";
import { admin } from "./messages.svelte";

/** Sample is one moment. What is counted by a node is told a minute. */
export interface Sample {
  time: Date;
  online: number;
  rooms: number;
  sessions: number;
  /** Unset at first, and where another node answered than before: each counts for itself. */
  calls?: number;
  refused?: number;
  /** Reads that a cache answered, of all reads since the sample before; unset where nothing was read. */
  hits?: number;
}

// An administrator's calls are limited as everybody's: a hundred in a quarter of an hour. This takes sixty of them.
const every = 15_000;
const most = 480; // two hours

class Monitor {
  stats = $state.raw<GetStatsResponse>();
  samples = $state.raw<readonly Sample[]>([]);
  problem = $state.raw<unknown>();

  private timer: ReturnType<typeof setTimeout> | undefined;
  private watched = false;

  /** watch asks until the function that it returns is called. What was gathered stays. */
  watch(): () => void {
    this.watched = true;
    void this.ask();
    const seen = () => {
      if (!document.hidden && this.timer === undefined) void this.ask();
    };
    document.addEventListener("visibilitychange", seen);
    return () => {
      this.watched = false;
      clearTimeout(this.timer);
      this.timer = undefined;
      document.removeEventListener("visibilitychange", seen);
    };
  }

  private async ask(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    let wait = every;
    try {
      const stats = await admin.getStats({});
      this.samples = [...this.samples, sample(stats, this.stats, this.samples.at(-1)?.time)].slice(-most);
      this.stats = stats;
      this.problem = undefined;
    } catch (error) {
      this.problem = error;
      wait = Math.max(every, retryAfter(error) ?? 0);
    }
    if (this.watched && !document.hidden) this.timer = setTimeout(() => void this.ask(), wait);
  }
}

const answering = (stats: GetStatsResponse) => stats.nodes.find((node) => node.answering)?.id;
const sum = <T>(list: readonly T[], value: (item: T) => bigint) => list.reduce((total, item) => total + Number(value(item)), 0);

/** sample is a moment, and what happened since the one before. */
function sample(now: GetStatsResponse, before: GetStatsResponse | undefined, then: Date | undefined): Sample {
  const time = new Date();
  const made: Sample = { time, online: now.onlineUsers, rooms: now.activeRooms, sessions: now.activeSessions };
  if (!before || !then || answering(now) !== answering(before)) return made;
  const minutes = (time.getTime() - then.getTime()) / 60_000;
  const since = (count: (stats: GetStatsResponse) => number) => Math.max(0, count(now) - count(before));
  const api = (stats: GetStatsResponse) => stats.rateLimits.filter((limit) => limit.policy === "api");
  made.calls = since((stats) => sum(api(stats), (limit) => limit.allowed + limit.limited)) / minutes;
  made.refused = since((stats) => sum(stats.rateLimits, (limit) => limit.limited)) / minutes;
  const answered = since((stats) => sum(near(stats), (row) => row.hits + row.negatives));
  const reads = since((stats) => sum(near(stats), (row) => row.hits + row.negatives + row.misses));
  if (reads > 0) made.hits = answered / reads;
  return made;
}

// The first layer sees every read; what it misses the next one sees again.
const near = (stats: GetStatsResponse) => stats.cache.filter((row) => row.layer === "near");

/** monitor goes on over the tabs of the page. */
export const monitor = new Monitor();
