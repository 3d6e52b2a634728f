// Tabs that share a stream, in a real browser: one of them holds it, whichever of them closes or crashes, and whatever
// becomes of the server.

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import type * as Library from "@free2talk/client";
import { launch, type Person, person, Server, Site } from "./harness/index.js";

let browser: Browser;
let server: Server;
let site: Site;

declare const free2talk: typeof Library;
declare global {
  /** What a page was told by the room's stream. */
  var told: string[];
}

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

/** follow makes a client in a page and follows the room there. */
const follow = (page: Page, room: string) =>
  page.evaluate(
    ([baseUrl, room]) => {
      globalThis.client ??= free2talk.createFree2Talk({ baseUrl });
      globalThis.told = [];
      void (async () => {
        for await (const { event: e } of client.watchRoom(room)) {
          told.push(e.case === "messagePosted" ? e.value.text : (e.case ?? ""));
        }
      })();
    },
    [server.url, room] as const,
  );

/** heard waits until every page has heard the words, and returns all that each was told. */
async function heard(pages: Page[], words: string): Promise<string[][]> {
  for (const page of pages) await page.waitForFunction((words) => told.includes(words), words);
  return Promise.all(pages.map((page) => page.evaluate(() => told)));
}

/** begin logs somebody in, seats them in a room of their own, and opens so many more tabs that follow it. */
async function begin(name: string, tabs: number): Promise<{ who: Person; pages: Page[]; room: string; streams: () => number }> {
  const who = await person(browser);
  let opened = 0;
  who.context.on("request", (req) => {
    if (req.method() === "POST" && req.url().endsWith("/WatchRoom")) opened++;
  });
  const first = await who.open(site.url);
  const room = await first.evaluate(
    async ([baseUrl, username]) => {
      globalThis.client = free2talk.createFree2Talk({ baseUrl });
      await client.auth.register({ username, email: `${username}@example.com`, password: "correct horse battery" });
      const { room } = await client.rooms.createRoom({ name: `Room of ${username}`, languages: ["es"] });
      return room?.id ?? "";
    },
    [server.url, name] as const,
  );
  const pages = [first];
  for (let i = 1; i < tabs; i++) pages.push(await who.open(site.url));
  for (const page of pages) {
    await follow(page, room);
    await page.waitForFunction(() => told.length > 0);
  }
  return { who, pages, room, streams: () => opened };
}

const say = (page: Page, roomId: string, text: string) =>
  page.evaluate(([roomId, text]) => client.rooms.sendMessage({ roomId, text }), [roomId, text] as const);

const said = (told: string[]) => told.filter((t) => !["snapshot", "resumed", "participantUpdated"].includes(t));

test("three tabs hold one stream; when the one that holds it closes, no word is lost and none comes twice", async () => {
  const { who, pages, room, streams } = await begin("tabs", 3);
  const [first, second, third] = pages as [Page, Page, Page];
  await say(third, room, "one");
  await heard(pages, "one");
  expect(streams()).toBe(1);

  await first.close();
  for (let i = 0; i < 20; i++) await say(third, room, `word ${i}`);
  const words = ["one", ...Array.from({ length: 20 }, (_, i) => `word ${i}`)];
  for (const told of await heard([second, third], "word 19")) expect(said(told)).toEqual(words);
  expect(streams()).toBe(2);

  await second.close();
  await say(third, room, "alone");
  for (const told of await heard([third], "alone")) expect(said(told)).toEqual([...words, "alone"]);
  await who.close();
});

test("a server that is killed and started again is found again by all tabs", async () => {
  const { who, pages, room } = await begin("killed", 2);
  const [first, second] = pages as [Page, Page];
  await say(first, room, "before");
  await heard(pages, "before");
  await server.end("SIGKILL");
  for (const page of pages) await page.waitForFunction(() => client.connection.current.status === "reconnecting");
  await server.run();
  for (const page of pages) await page.waitForFunction(() => client.connection.current.status === "open");
  await say(second, room, "after");
  for (const told of await heard(pages, "after")) expect(said(told)).toEqual(["before", "after"]);
  expect(who.complaints).toEqual([]);
  await who.close();
});

test("logging out in one tab ends the streams of all", async () => {
  const { who, pages } = await begin("leaving", 2);
  const [first, second] = pages as [Page, Page];
  await first.evaluate(() => client.auth.logout({}));
  for (const page of [first, second]) await page.waitForFunction(() => client.connection.current.status === "idle");
  await who.close();
});
