// Line 7 of the issue: what the first visit costs, and a lobby that is full and busy.

import type { CDPSession } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { cards } from "./app/steps.js";
import { Bare, launch, person, Server } from "./harness/index.js";

/** How often the page is visited; oftener in the long form. */
const visits = process.env.FREE2TALK_TEST_LONG ? 12 : 4;

let server: Server;

beforeAll(async () => {
  server = await Server.start();
  const { accessToken } = await server.register("ada");
  await server.call("RoomService/CreateRoom", { name: "Tapas y charla", languages: ["es"], capacity: 4 }, accessToken);
});

afterAll(async () => {
  await server?.dispose();
});

/** loaded is what came over the wire on a first visit, in bytes with headers, by address. */
async function loaded(): Promise<Map<string, number>> {
  const browser = await launch();
  const visitor = await person(browser);
  const page = await visitor.context.newPage();
  const bytes = await counted(await visitor.context.newCDPSession(page));
  await page.goto(server.url, { waitUntil: "commit" });
  await cards(page).getByText("Tapas y charla").waitFor();
  await page.waitForFunction(() => document.fonts.check('700 16px "Bricolage Grotesque"') && document.fonts.size > 0);
  await browser.close();
  return bytes;
}

/**
 * watch runs in the page, and has its title say when it was of use: once it was parsed, something was painted, the rooms were
 * there, and the last task that was long had ended before a quiet second (https://web.dev/articles/tti). It does nothing
 * before that time is over.
 */
function watch(): void {
  const ends: number[] = [];
  new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) ends.push(startTime + duration);
  }).observe({ type: "longtask", buffered: true });
  const look = () => {
    const [rooms] = performance.getEntriesByName("rooms");
    const [painted] = performance.getEntriesByName("first-contentful-paint");
    const [page] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
    const last = Math.max(rooms?.startTime ?? Infinity, painted?.startTime ?? Infinity, page?.domContentLoadedEventEnd ?? Infinity, ...ends);
    if (performance.now() - last > 1000) document.title = `interactive ${last}`;
    else setTimeout(look, 1000);
  };
  setTimeout(look, 3000);
}

/** counted counts what comes, by address. */
async function counted(devtools: CDPSession): Promise<Map<string, number>> {
  const bytes = new Map<string, number>();
  const names = new Map<string, string>();
  await devtools.send("Network.enable");
  await devtools.send("Network.setCacheDisabled", { cacheDisabled: true });
  devtools.on("Network.responseReceived", ({ requestId, response }) => {
    names.set(requestId, new URL(response.url).pathname);
  });
  devtools.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    bytes.set(names.get(requestId) ?? requestId, encodedDataLength);
  });
  // The stream of the lobby does not finish: what it has brought counts as it is, without its headers.
  devtools.on("Network.dataReceived", ({ requestId, dataLength }) => {
    const name = names.get(requestId) ?? requestId;
    if (/\/Watch|\/Connect$/.test(name)) bytes.set(name, (bytes.get(name) ?? 0) + dataLength);
  });
  return bytes;
}

test("a first visit is small", async () => {
  const bytes = await loaded();
  const total = [...bytes.values()].reduce((a, b) => a + b, 0);
  for (const [name, size] of bytes) console.log(String(size).padStart(8), name);
  console.log(`first load: ${(total / 1000).toFixed(1)} kB`);
  expect(total).toBeLessThan(100_000);
});

test("the first rooms come with the page, once, and are shown before the stream of all of them", async () => {
  const many = await Server.start();
  const browser = await launch();
  try {
    for (let n = 0; n < 25; n++) {
      const { accessToken } = await many.register(`host${n}`);
      await many.call("RoomService/CreateRoom", { name: `Room ${n}`, languages: ["es"], capacity: 4 }, accessToken);
    }
    const visitor = await person(browser);
    const page = await visitor.context.newPage();
    let first: Promise<number> | undefined;
    await page.route("**/WatchRooms", () => {
      first ??= page.evaluate(() => performance.getEntriesByName("rooms").length);
    }); // which is never answered
    await page.goto(many.url);
    await page.getByText("25 rooms").waitFor();
    await cards(page).getByText("Room 24").waitFor();
    const asked = await page.evaluate(() =>
      (performance.getEntriesByType("resource") as PerformanceResourceTiming[])
        .filter(({ name }) => name.includes("/ListRooms"))
        .map(({ initiatorType }) => initiatorType),
    );
    expect(asked).toEqual(["link"]);
    await expect.poll(() => first).toBe(1); // they are on the screen when the stream is asked for
    // Whoever comes with a filter is shown what the stream brings.
    await page.goto(`${many.url}/?level=beginner`);
    await page.getByLabel("Search rooms").waitFor();
    expect(await cards(page).count()).toBe(0);
    expect(visitor.complaints).toEqual([]);
    // And whom a limit refuses the first rooms.
    const unlucky = await (await person(browser)).context.newPage();
    await unlucky.route("**/ListRooms?*", (route) => route.fulfill({ status: 429 }));
    await unlucky.goto(many.url);
    await cards(unlucky).getByText("Room 24").waitFor();
  } finally {
    await browser.close();
    await many.dispose();
  }
}, 60_000);

// The time is printed and not judged: it is the machine's as much as the page's.
test("a first visit is soon of use", async () => {
  const bare = await Bare.start();
  try {
    const times: number[] = [];
    for (let n = 0; n < visits; n++) {
      const said = await bare.visit(server.url, 4, `(${watch.toString()})()`, "interactive ");
      times.push(Number(said.split(" ")[1]));
    }
    // The figure is the median, as of Lighthouse's own runs (https://github.com/GoogleChrome/lighthouse/blob/main/docs/variability.md).
    const median = times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)];
    console.log(`interactive: ${median?.toFixed(0)} ms, the median of ${times.map((t) => t.toFixed(0)).join(", ")}`);
    expect(Math.min(...times)).toBeGreaterThan(0);
  } finally {
    await bare.close();
  }
});
