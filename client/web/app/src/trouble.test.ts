// What a page says, and lets people do, while the server refuses what it needs.

import { Code, ConnectError } from "@connectrpc/connect";
import { render } from "svelte/server";
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";

// Modules look at these as soon as they are loaded.
beforeAll(() => {
  vi.stubGlobal("location", new URL("https://free2talk.example/"));
  vi.stubGlobal("BroadcastChannel", undefined);
});

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const state = async () => ({ ...(await import("./backend")), ...(await import("./state/app.svelte")) });

/** text is what there is to read of a component, and to press. */
function text({ default: component }: { default: unknown }, props = {}): string {
  const { body } = render(component as Parameters<typeof render>[0], { props } as never);
  const words = body.replace(/<button[^>]*>/g, " [").replace(/<\/button>/g, "] ").replace(/<[^>]*>/g, "");
  return words.replace(/\s+/g, " ").trim();
}

const lobby = async () => text(await import("./pages/Lobby.svelte"));
const links = async () => text(await import("./ui/AccountLinks.svelte"), { onlogout: () => {} });

async function* refusing(code: Code): AsyncGenerator<never> {
  throw new ConnectError("refused", code);
}

test("a lobby that the server does not offer just now says so and asks again, also one that was there before", async () => {
  const { api, app } = await state();
  const watch = vi.spyOn(api, "watchRooms").mockImplementation(() => refusing(Code.Unimplemented));
  expect(await lobby()).toContain("Loading the rooms…");
  const stop = app.watchLobby();
  await vi.advanceTimersByTimeAsync(0);
  const why = String.raw`This server does not offer that\. Trying again in \d+ seconds?\. \[Try again\]`;
  expect(await lobby()).toMatch(new RegExp(why));
  expect(await lobby()).not.toContain("Loading");

  app.lobby.begin([], 0);
  expect(await lobby()).toMatch(new RegExp(`These rooms are not up to date\\. ${why}`));
  await vi.advanceTimersByTimeAsync(3_000);
  expect(watch).toHaveBeenCalledTimes(2);
  stop();
  await vi.advanceTimersByTimeAsync(120_000);
  expect(await lobby()).not.toContain("Trying again");
});

test("whoever has a session may end it, also while nobody says whose it is", async () => {
  const { api, app } = await state();
  const session = vi.spyOn(api.session, "current", "get").mockReturnValue({ status: "authenticated", sessionId: "s1" });
  vi.spyOn(api, "connect").mockImplementation(() => refusing(Code.Unavailable));
  vi.spyOn(api.auth, "getMe").mockRejectedValue(new ConnectError("too many calls", Code.ResourceExhausted));
  expect(await links()).toBe("");
  await app.begun();
  expect([app.session.settled, await links()]).toEqual([false, "[Log out]"]);
  session.mockReturnValue({ status: "anonymous" });
});
