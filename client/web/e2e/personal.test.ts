// The personal stream in a real browser: what happens in one's room, over one connection.

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import type * as Library from "@free2talk/client";
import { launch, type Person, person, Server, Site } from "./harness/index.js";

let browser: Browser;
let server: Server;
let site: Site;

declare const free2talk: typeof Library;

beforeAll(async () => {
  site = await Site.open();
  server = await Server.start({ flags: ["--allowed-origins", site.url] });
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
  await server?.dispose();
  site?.close();
});

/** enter logs somebody in, who follows their own stream. */
async function enter(username: string): Promise<{ who: Person; page: Page; streams: () => number }> {
  const who = await person(browser);
  let opened = 0;
  who.context.on("request", (req) => {
    if (req.method() === "POST" && req.url().endsWith("/Connect")) opened++;
  });
  const page = await who.open(site.url);
  await page.evaluate(
    async ([baseUrl, username]) => {
      globalThis.client = free2talk.createFree2Talk({ baseUrl });
      await client.auth.register({ username, email: `${username}@example.com`, password: "correct horse battery" });
      globalThis.told = [];
      void (async () => {
        for await (const { event: e } of client.connect()) {
          const closed = e.case === "participantLeft" && e.value.reason === free2talk.LeaveReason.ROOM_CLOSED;
          told.push(closed ? "participantLeft, as the room closed" : (e.case ?? ""));
        }
      })();
    },
    [server.url, username] as const,
  );
  await page.waitForFunction(() => told.includes("snapshot"));
  return { who, page, streams: () => opened };
}

const hears = (page: Page, what: string, times = 1) =>
  page.waitForFunction(([what, times]) => told.filter((t) => t === what).length >= times, [what, times] as const);

test("people in a room hear of each other until it closes, over one stream each", async () => {
  const eve = await enter("eve");
  const fay = await enter("fay");
  const room = await eve.page.evaluate(async () => {
    const { room } = await client.rooms.createRoom({ name: "Kaffee", languages: ["de"] });
    return room?.id ?? "";
  });
  await fay.page.evaluate((roomId) => client.rooms.joinRoom({ roomId }), room);
  await hears(eve.page, "participantJoined");
  await fay.page.evaluate((roomId) => client.rooms.sendMessage({ roomId, text: "hallo" }), room);
  await hears(eve.page, "messagePosted");
  const userId = await fay.page.evaluate(async () => (await client.auth.getMe({})).account?.user?.id ?? "");
  await eve.page.evaluate(([roomId, userId]) => client.rooms.transferOwnership({ roomId, userId }), [room, userId] as const);
  await hears(fay.page, "ownerChanged");
  await fay.page.evaluate((roomId) => client.rooms.closeRoom({ roomId }), room);
  for (const { page } of [eve, fay]) await hears(page, "snapshot", 3); // at first, when they sat down, and when it was over
  for (const { who, page, streams } of [eve, fay]) {
    expect(await page.evaluate(() => client.connection.current)).toEqual({ status: "open" });
    expect(streams()).toBe(1);
    // Whoever has left hears no more of the room: that it closed is the reason for which they did.
    const [left, state] = (await page.evaluate(() => told)).slice(-2);
    expect([left, state]).toEqual(["participantLeft, as the room closed", "snapshot"]);
    expect(who.complaints).toEqual([]);
    await who.close();
  }
});
