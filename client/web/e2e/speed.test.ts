// Line 7 of the issue: what the first visit costs, and a lobby that is full and busy.

import type { Browser, CDPSession } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { cards } from "./app/steps.js";
import { launch, person, Server } from "./harness/index.js";

let browser: Browser;
let server: Server;

beforeAll(async () => {
  [browser, server] = await Promise.all([launch(), Server.start()]);
  const { accessToken } = await server.register("ada");
  await server.call("RoomService/CreateRoom", { name: "Tapas y charla", languages: ["es"], capacity: 4 }, accessToken);
});

afterAll(async () => {
  await browser?.close();
  await server?.dispose();
});

/** Visit is what a page cost until everything had come. */
interface Visit {
  /** Bytes over the wire, with headers, by address. */
  bytes: Map<string, number>;
  /** Milliseconds from the navigation until a room was shown and no task was longer than 50 ms. */
  interactive: number;
}

/** visit opens the lobby with an empty cache, on a processor that is so many times slower. */
async function visit(slower: number): Promise<Visit> {
  const visitor = await person(browser);
  await visitor.context.addInitScript(watch);
  const page = await visitor.context.newPage();
  const devtools = await visitor.context.newCDPSession(page);
  const bytes = await counted(devtools);
  await devtools.send("Emulation.setCPUThrottlingRate", { rate: slower });
  // Nothing is asked of the page meanwhile: what asks would run a script of its own in it, for a tenth of a second.
  const said = page.waitForEvent("console", (message) => message.text().startsWith("interactive "));
  await page.goto(server.url, { waitUntil: "commit" });
  const interactive = Number((await said).text().split(" ")[1]);
  await cards(page).getByText("Tapas y charla").waitFor();
  await page.waitForFunction(() => document.fonts.check('700 16px "Bricolage Grotesque"') && document.fonts.size > 0);
  await visitor.close();
  return { bytes, interactive };
}

/** watch runs in the page, and says when it was of use: once no task has been long for a second. */
function watch(): void {
  const ends: number[] = [];
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) ends.push(task.startTime + task.duration);
  }).observe({ type: "longtask", buffered: true });
  new MutationObserver((_, seen) => {
    if (!document.querySelector('[aria-label="Open rooms"] li')) return;
    seen.disconnect();
    ends.push(performance.now());
    setTimeout(() => console.info(`interactive ${Math.max(...ends)}`), 1000);
  }).observe(document, { childList: true, subtree: true });
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

test("a first visit is small and soon of use", async () => {
  const visits: Visit[] = [];
  for (let n = 0; n < 3; n++) visits.push(await visit(4));
  const total = (v: Visit) => [...v.bytes.values()].reduce((a, b) => a + b, 0);
  for (const [name, size] of visits[0]?.bytes ?? []) console.log(String(size).padStart(8), name);
  console.log(`first load: ${visits.map((v) => (total(v) / 1000).toFixed(1)).join(", ")} kB`);
  console.log(`interactive: ${visits.map((v) => v.interactive.toFixed(0)).join(", ")} ms`);
  expect(Math.max(...visits.map(total))).toBeLessThan(100_000);
});
