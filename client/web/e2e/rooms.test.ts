// Line 1 of the issue: people meet in a room.

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { cards, hears, join, openRoom, owner, say, seat, signUp } from "./app/steps.js";
import { launch, person, screenshot, Server } from "./harness/index.js";

let server: Server;
let browser: Browser;

beforeAll(async () => {
  server = await Server.start({ flags: ["--presence-grace", "5s"] });
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
  await server?.dispose();
});

test("a room is found, joined and talked in; who is kicked is told; the owner comes back, and is succeeded", async () => {
  const ada = await person(browser);
  const bob = await person(browser);
  const adas = await ada.open(server.url);
  const bobs = await bob.open(server.url);
  await signUp(adas, server.url, "ada");
  await signUp(bobs, server.url, "bob");

  // Opened by one, seen by the other at once, without a reload.
  const room = await openRoom(adas, "Tapas y charla");
  const card = cards(bobs).getByRole("link", { name: /Tapas y charla/ });
  await card.waitFor();
  await screenshot(bobs, "lobby");
  await card.click();
  await join(bobs);
  await seat(adas, "bob").waitFor();
  await seat(bobs, "ada").waitFor();
  await owner(bobs, "ada");

  await say(adas, "¿Qué tal?");
  await hears(bobs, "¿Qué tal?");
  await say(bobs, "Muy bien, gracias.");
  await hears(adas, "Muy bien, gracias.");
  await screenshot(adas, "room");

  // Kicked, told why and for how long, and kept out; until the ban is lifted.
  await seat(adas, "bob").getByRole("button").click();
  await adas.getByRole("button", { name: "Remove from the room" }).click();
  await adas.getByLabel("Reason").fill("Spoilers of the novel");
  await adas.getByRole("button", { name: "Remove from the room" }).click();
  await bobs.getByText("You were removed from this room", { exact: true }).waitFor();
  await bobs.getByText(/Spoilers of the novel/).first().waitFor();
  await screenshot(bobs, "kicked");
  expect(await bobs.getByRole("button", { name: "Join", exact: true }).isDisabled()).toBe(true);
  await bobs.reload();
  await bobs.getByText("You were removed from this room", { exact: true }).waitFor();
  await adas.getByRole("button", { name: "Bans" }).click();
  await adas.getByRole("button", { name: "Let back in" }).click();
  await adas.getByText("Nobody is kept out.").waitFor();
  await adas.keyboard.press("Escape");
  await bobs.goto(`${server.url}/`);
  await card.click();
  await join(bobs);

  // Gone for less than the grace: still the owner.
  await adas.close();
  const again = await ada.open(room);
  await again.getByLabel("Write a message").waitFor();
  await owner(again, "ada");
  await owner(bobs, "ada");

  // Gone for good: the heir runs the room, live.
  await again.close();
  await bobs.getByText("You run this room now.").waitFor({ timeout: 30_000 });
  await owner(bobs, "bob");
  expect(await seat(bobs, "ada").count()).toBe(0);
  await bobs.getByRole("button", { name: "Close the room" }).waitFor();
  await screenshot(bobs, "heir");
  expect([...ada.complaints, ...bob.complaints]).toEqual([]);
  await ada.close();
  await bob.close();
});

test("a room is edited, handed over and closed, and everybody sees it happen", async () => {
  const eve = await person(browser);
  const fay = await person(browser, { viewport: { width: 390, height: 844 } });
  const eves = await eve.open(server.url);
  const fays = await fay.open(server.url);
  await signUp(eves, server.url, "eve");
  await signUp(fays, server.url, "fay");
  const room = await openRoom(eves, "Kaffee und Kuchen", "de", 2);
  await fays.goto(room);
  await join(fays);

  await eves.getByRole("button", { name: "Edit" }).click();
  await eves.getByLabel("Name").fill("Kaffee ohne Kuchen");
  await eves.getByRole("button", { name: "Save" }).click();
  await fays.getByRole("heading", { name: "Kaffee ohne Kuchen", level: 1 }).waitFor();

  await seat(eves, "fay").getByRole("button").click();
  await eves.getByRole("button", { name: "Hand the room over" }).click();
  await eves.getByRole("dialog").getByRole("button", { name: "Hand the room over" }).click();
  await owner(eves, "fay");
  await fays.getByText("You run this room now.").waitFor();
  await screenshot(fays, "room-phone");

  await fays.getByRole("button", { name: "Close the room" }).click();
  await fays.getByRole("dialog").getByRole("button", { name: "Close the room" }).click();
  await eves.getByText("This room is over").waitFor();
  await eves.getByRole("link", { name: "Go to the rooms" }).click();
  expect(await cards(eves).getByRole("link", { name: /Kaffee/ }).count()).toBe(0);
  expect([...eve.complaints, ...fay.complaints]).toEqual([]);
  await eve.close();
  await fay.close();
});

test("the lobby is searched and filtered, and the address says how", async () => {
  const gus = await person(browser);
  const page = await gus.open(server.url);
  await signUp(page, server.url, "gus");
  await openRoom(page, "Café du matin", "fr");
  await page.getByRole("link", { name: "Rooms" }).click();
  const card = cards(page).getByRole("link", { name: /Café du matin/ });
  await card.waitFor();

  await page.getByRole("searchbox").fill("cafe DU");
  await card.waitFor();
  await page.getByRole("search").getByLabel("Language").selectOption("fr");
  await page.waitForURL(/language=fr/);
  await page.getByRole("searchbox").fill("nothing like it");
  await page.getByText("No room matches").waitFor();
  await page.reload();
  await page.getByText("No room matches").waitFor();
  await page.getByRole("button", { name: "Clear the filter" }).click();
  await card.waitFor();
  expect(gus.complaints).toEqual([]);
  await gus.close();
});
