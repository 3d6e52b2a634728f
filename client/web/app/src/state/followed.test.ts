import { ConnectError, Code } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Followed } from "./followed.svelte";

/** Play is what opening the stream brings; without an error it goes on. */
interface Play {
  sends?: string[];
  error?: Error;
}

const unimplemented = () => new ConnectError("not found", Code.Unimplemented);

function stage(...plays: Play[]) {
  const took: string[] = [];
  const opened: AbortSignal[] = [];
  const stream = new Followed<string>(
    async function* (signal) {
      const play = plays[Math.min(opened.push(signal), plays.length) - 1];
      yield* play?.sends ?? [];
      if (play?.error) throw play.error;
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    },
    (event) => took.push(event),
  );
  return { stream, took, opened };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("a stream that failed for good says why, and is opened again ever more seldom until it goes on", async () => {
  const error = unimplemented();
  const { stream, took, opened } = stage({ sends: ["a"], error }, { error }, { error }, { sends: ["b"] });
  stream.begin();
  await vi.advanceTimersByTimeAsync(0);
  expect(stream.trouble).toEqual({ error, until: Date.now() + 3_000 });
  await vi.advanceTimersByTimeAsync(3_000);
  expect(stream.trouble).toEqual({ error, until: Date.now() + 6_000 });
  await vi.advanceTimersByTimeAsync(6_000);
  expect(stream.trouble).toEqual({ error, until: Date.now() + 12_000 });
  await vi.advanceTimersByTimeAsync(12_000);
  expect([stream.trouble, took, opened.length]).toEqual([undefined, ["a", "b"], 4]);
});

test("who asks for it has it opened at once", async () => {
  const { stream, took } = stage({ error: unimplemented() }, { sends: ["a"] });
  stream.begin();
  await vi.advanceTimersByTimeAsync(0);
  stream.again();
  await vi.advanceTimersByTimeAsync(0);
  expect([stream.trouble, took]).toEqual([undefined, ["a"]]);
});

test("what is followed no more is not opened again, and what is followed anew is opened once", async () => {
  const { stream, opened } = stage({ error: unimplemented() }, {});
  stream.begin();
  await vi.advanceTimersByTimeAsync(0);
  stream.end();
  await vi.advanceTimersByTimeAsync(60_000);
  expect([stream.trouble, opened.length]).toEqual([undefined, 1]);
  stream.begin();
  stream.end();
  stream.begin();
  stream.begin();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(opened.map((signal) => signal.aborted)).toEqual([true, true, false]);
});
