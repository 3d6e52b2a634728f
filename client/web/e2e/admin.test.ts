// The administrator's page: what is done there is done, and written down.

import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { GetAnalyticsResponseSchema, GetStatsResponseSchema } from "../src/gen/free2talk/admin/v1/admin_service_pb.js";
import { axeFinds } from "./app/axe.js";
import { password, signUp } from "./app/steps.js";
import { launch, person, screenshot, Server } from "./harness/index.js";

let server: Server;
let browser: Browser;

beforeAll(async () => {
  server = await Server.start({ flags: ["--unattended", "0"] });
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
  await server?.dispose();
});

/** figures answers for the server with figures that a test knows. */
async function figures(page: Page): Promise<void> {
  let asked = 0;
  const answer = (body: Uint8Array) => ({ contentType: "application/proto", body: Buffer.from(body) });
  await page.route(/AdminService\/GetStats/, (route) => {
    asked++;
    const near = { cache: "room", layer: "near", hits: BigInt(900 * asked), misses: BigInt(100 * asked), hitRatio: 0.9 };
    const stats = create(GetStatsResponseSchema, {
      onlineUsers: 40 + asked,
      activeRooms: 12,
      activeSessions: 57,
      nodes: [{ id: "01a21812-331d-753e-a37e-d11c2b4ff3cd", answering: true, seenAt: timestampFromDate(new Date()) }],
      redis: { available: true, servers: "10.0.0.5:6379" },
      database: { available: true, kind: "postgres", openConnections: 8, usedConnections: 2, maxConnections: 20 },
      cache: [near, { cache: "room", layer: "redis", hits: 90n, misses: 10n, hitRatio: 0.9 }],
      rateLimits: [{ policy: "api", allowed: BigInt(500 * asked), limited: 3n }, { policy: "message" }],
    });
    return route.fulfill(answer(toBinary(GetStatsResponseSchema, stats)));
  });
  await page.route(/AdminService\/GetAnalytics/, (route) => {
    const hour = 3_600_000;
    const start = Math.floor(Date.now() / hour) * hour - 168 * hour;
    const use = create(GetAnalyticsResponseSchema, {
      points: Array.from({ length: 168 }, (_, i) => ({
        time: timestampFromDate(new Date(start + i * hour)),
        peakOnline: 20 + Math.round(18 * Math.sin(((i % 24) / 24) * 2 * Math.PI)),
        activeUsers: 10 + (i % 24),
        joins: 5 + (i % 12),
      })),
      topLanguages: [{ language: "es", joins: 40, minutesTogether: 900 }, { language: "en", joins: 30, minutesTogether: 600 }],
      topRooms: [{ roomId: "01a21812-331d-753e-a37e-d11c2b4ff3cd", name: "Tapas y charla", joins: 12, minutesTogether: 320 }],
    });
    return route.fulfill(answer(toBinary(GetAnalyticsResponseSchema, use)));
  });
}

/** administrator logs in somebody who may administrate. */
async function administrator(username: string): Promise<Awaited<ReturnType<typeof person>>> {
  const who = await person(browser, { bypassCSP: true, reducedMotion: "reduce" });
  const page = await who.open(server.url);
  await signUp(page, server.url, username);
  await server.promote(username);
  await page.close();
  return who;
}

test("what is typed as soon as a tab is chosen is typed there", async () => {
  const tess = await administrator("tess");
  const page = await tess.open(`${server.url}/admin/rooms`);
  await page.getByRole("searchbox").waitFor();
  const next = await page.evaluate(async () => {
    document.querySelector<HTMLAnchorElement>('nav.tabs a[href="/admin/people"]')?.click();
    // A key that is pressed next is a task of its own: nothing may be left of the page before by then.
    await new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = resolve;
      port2.postMessage(0);
    });
    return document.querySelector<HTMLInputElement>("main input[type=search]")?.placeholder;
  });
  expect(next).toBe("Beginning of a username or an e-mail, or an id");
  await tess.close();
});

test("an administrator bans, lets back, closes rooms, and finds it all in the log", async () => {
  const { accessToken } = await server.register("troll", password);
  await server.call("RoomService/CreateRoom", { name: "Buy my course", languages: ["en"] }, accessToken);
  const ada = await administrator("ada");
  const page = await ada.open(`${server.url}/admin/rooms`);

  const row = page.getByRole("row", { name: /Buy my course/ });
  await row.waitFor();
  await screenshot(page, "admin-rooms");
  expect.soft(await axeFinds(page)).toEqual([]);
  await row.getByRole("button", { name: /Close/ }).click();
  await page.getByLabel("Reason").fill("Advertising");
  await page.getByRole("dialog").getByRole("button", { name: "Close", exact: true }).last().click();
  await page.getByText("“Buy my course” is closed.").waitFor();
  await row.waitFor({ state: "detached" });

  await page.getByRole("link", { name: "People" }).last().click();
  await page.getByRole("searchbox").fill("tro");
  await page.getByRole("searchbox").press("Enter");
  await page.getByRole("row", { name: /ada/ }).waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Act: troll" }).click();
  await page.getByRole("button", { name: "Ban", exact: true }).click();
  await page.getByLabel("Reason").fill("Advertising");
  await page.getByRole("dialog").getByRole("button", { name: "Ban", exact: true }).click();
  await page.getByText("troll is banned.").waitFor();
  await page.getByRole("dialog").getByText("Banned for good").waitFor();
  await screenshot(page, "admin-banned");
  expect.soft(await axeFinds(page)).toEqual([]);

  const troll = await person(browser);
  const trolls = await troll.open(`${server.url}/login`);
  await trolls.getByLabel("E-mail or username").fill("troll");
  await trolls.getByLabel("Password", { exact: true }).fill(password);
  await trolls.locator("form").getByRole("button", { name: "Log in" }).click();
  await trolls.getByText(/This account is banned/).waitFor();
  await troll.close();

  let answer = () => {};
  const held = new Promise<void>((resolve) => (answer = resolve));
  await page.route(/AdminService\/ListUsers/, (route) => held.then(() => route.continue()));
  await page.getByRole("button", { name: "End the ban" }).click();
  await page.getByText("troll may log in again.").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  answer();
  await page.getByRole("row", { name: /troll/ }).getByText("Banned for good").waitFor({ state: "detached" });
  expect(await page.getByRole("dialog").count(), "dialogs, once the answer is there").toBe(0);
  await page.getByRole("link", { name: "Audit log" }).click();
  for (const action of ["close_room", "ban_user", "unban_user"]) await page.getByRole("rowheader", { name: action, exact: true }).waitFor();
  await page.getByRole("button", { name: "Verify the log" }).click();
  await page.getByText(/the log is whole/).waitFor();
  await screenshot(page, "admin-audit");
  expect.soft(await axeFinds(page)).toEqual([]);
  expect(ada.complaints).toEqual([]);
  await ada.close();
});

test("the plots grow while one looks, and say their range to who cannot see them", async () => {
  const eve = await administrator("eve");
  await eve.context.clock.install();
  const page = await eve.open("about:blank");
  await figures(page);
  await page.goto(`${server.url}/admin`);
  await page.getByText("Redis answers").waitFor();
  const online = page.getByRole("figure", { name: /People online/ });
  await online.getByText("41", { exact: true }).waitFor();
  for (const n of ["42", "43"]) {
    await page.clock.fastForward(16_000);
    await online.getByText(n, { exact: true }).waitFor();
  }
  await online.getByText("From 41 to 43; now 43.").waitFor();
  await page.getByRole("figure", { name: /Reads answered by the cache/ }).getByText("90%", { exact: true }).waitFor();
  await page.getByRole("heading", { name: "Peak hours" }).waitFor();
  await screenshot(page, "admin");
  await page.setViewportSize({ width: 390, height: 844 });
  await screenshot(page, "admin-phone");
  expect.soft(await axeFinds(page)).toEqual([]);
  expect(eve.complaints).toEqual([]);
  await eve.close();
});

test("the page is nobody else's", async () => {
  const bob = await person(browser);
  const page = await bob.open(server.url);
  await signUp(page, server.url, "bob");
  await page.goto(`${server.url}/admin`);
  await page.getByRole("heading", { name: "This page is for administrators." }).waitFor();
  expect(await page.getByRole("link", { name: "Admin", exact: true }).count()).toBe(0);
  expect(bob.complaints).toEqual([]);
  await bob.close();
});
