// Sessions that end, by intent or from elsewhere, and how a page says so; and one that begins on a bad day.

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { errorInfo, retryInfo } from "../test/fakes.js";
import { cards, openRoom, password, signUp } from "./app/steps.js";
import { launch, person, Server } from "./harness/index.js";

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

interface Grant {
  account: { user: { id: string } };
  tokens: { accessToken: string };
}

/** device logs somebody in elsewhere, without a browser. */
const device = async (username: string) => (await server.call("AuthService/Login", { username, password })) as Grant;

/** known waits until a page knows who is logged in. */
const known = (page: Page) => page.getByRole("link", { name: "People", exact: true }).waitFor();

/** anonymous waits until a page says so, and that nobody is logged in. */
async function anonymous(page: Page, note: string): Promise<void> {
  await page.getByText(note, { exact: true }).waitFor();
  await page.getByRole("link", { name: "Log in" }).first().waitFor();
  expect(await page.getByText("Please log in again.", { exact: true }).count(), "red notes").toBe(0);
}

/** limited has the server refuse to say who somebody is, until it is told otherwise. */
async function limited(page: Page, seconds: number): Promise<() => Promise<void>> {
  const details = [
    { type: "google.rpc.ErrorInfo", value: errorInfo("RATE_LIMITED", "free2talk", { policy: "api" }) },
    { type: "google.rpc.RetryInfo", value: retryInfo(seconds * 1000) },
  ].map(({ type, value }) => ({ type, value: Buffer.from(value).toString("base64").replace(/=+$/, "") }));
  const json = { code: "resource_exhausted", message: "too many calls", details };
  await page.route(/AuthService\/GetMe/, (route) => route.fulfill({ status: 429, json }));
  return () => page.unroute(/AuthService\/GetMe/);
}

test("a session that is ended from elsewhere is over at once in all tabs, which say why", async () => {
  const ada = await person(browser);
  const lobby = await ada.open(server.url);
  await signUp(lobby, server.url, "ada");
  const room = await ada.open(server.url);
  await known(room);
  await openRoom(room, "Tapas y charla");

  const other = await device("ada");
  const { sessions } = (await server.call("AuthService/ListSessions", {}, other.tokens.accessToken)) as {
    sessions: { id: string; current?: boolean }[];
  };
  for (const { id, current } of sessions) {
    if (!current) await server.call("AuthService/RevokeSession", { sessionId: id }, other.tokens.accessToken);
  }
  for (const page of [room, lobby]) await anonymous(page, "You were logged out. Please log in again.");
  await room.getByLabel("Write a message").waitFor({ state: "detached" });
  expect(ada.complaints).toEqual([]);
  await ada.close();
});

test("who is banned is told, also where another stream hears of it first", async () => {
  const bob = await person(browser);
  const page = await bob.open(server.url);
  await signUp(page, server.url, "bob");
  await server.register("ruth", password);
  await server.promote("ruth");
  const [{ account }, ruth] = await Promise.all([device("bob"), device("ruth")]);
  const res = await fetch(`${server.url}/free2talk.admin.v1.AdminService/BanUser`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${ruth.tokens.accessToken}` },
    body: JSON.stringify({ userId: account.user.id, reason: "Advertising" }),
  });
  expect(res.status).toBe(200);
  await anonymous(page, "Your account was banned.");
  expect(bob.complaints).toEqual([]);
  await bob.close();
});

test("who logs out is told so once, and the lobby goes on in all tabs", async () => {
  const dan = await person(browser);
  const dans = await dan.open(server.url);
  await signUp(dans, server.url, "dan");
  const cat = await person(browser);
  const lobby = await cat.open(server.url);
  await signUp(lobby, server.url, "cat");
  const people = await cat.open(`${server.url}/people`);
  await people.getByRole("link", { name: /dan/ }).waitFor();
  const second = await cat.open(server.url);
  await known(second);

  await lobby.getByRole("button", { name: "Account and settings" }).click();
  await lobby.getByRole("button", { name: "Log out" }).click();
  for (const page of [lobby, second, people]) await anonymous(page, "You are logged out.");

  await openRoom(dans, "Nach dem Abschied", "de");
  for (const page of [lobby, second]) {
    await cards(page).getByRole("link", { name: /Nach dem Abschied/ }).waitFor();
    expect(await page.getByText("Please log in again.", { exact: true }).count(), "red notes").toBe(0);
  }
  expect([...cat.complaints, ...dan.complaints]).toEqual([]);
  await cat.close();
  await dan.close();
});

test("a log-in is one, also where the account cannot be had: the page says why and asks again", async () => {
  await server.register("eve", password);
  const eve = await person(browser);
  const page = await eve.open(`${server.url}/login?to=/settings`);
  const enough = await limited(page, 6);
  await page.getByLabel("E-mail or username").fill("eve");
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.locator("form").getByRole("button", { name: "Log in" }).click();
  await page.getByText(/That was a bit too often\.\s+Trying again in \d seconds?\./).waitFor();
  await page.waitForURL(`${server.url}/settings`);
  expect(await page.getByRole("link", { name: "Log in" }).count()).toBe(0);
  await enough();
  await page.getByRole("heading", { name: "Settings", level: 1 }).waitFor();
  await page.getByText("That was a bit too often.").waitFor({ state: "detached" });

  // So it is after a reload, and where the server says nothing of a delay.
  await page.route(/AuthService\/GetMe/, (route) => route.fulfill({ status: 500, json: { code: "internal", message: "oops" } }));
  await page.goto(`${server.url}/settings`);
  await page.getByText(/Something went wrong\..*\s+Trying again in \d seconds?\./).waitFor();
  await page.unroute(/AuthService\/GetMe/);
  await page.getByRole("heading", { name: "Settings", level: 1 }).waitFor();
  expect(eve.complaints).toEqual([]);
  await eve.close();
});
