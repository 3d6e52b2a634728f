// Line 7 of the issue: axe finds nothing on any page, in light, in dark and from right to left; and what it cannot
// find: that the keyboard is enough.

import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { axeFinds } from "./app/axe.js";
import { password } from "./app/steps.js";
import { launch, person, screenshot, Server } from "./harness/index.js";

let server: Server;
let browser: Browser;
let room: string;

beforeAll(async () => {
  server = await Server.start({ flags: ["--unattended", "0", "--presence-grace", "5m"] });
  browser = await launch();
  const ada = await server.register("ada", password);
  const bob = await server.register("bob", password);
  const draft = { name: "Tapas y charla", topic: "Food and cities", languages: ["es", "en"], capacity: 4 };
  const opened = (await server.call("RoomService/CreateRoom", draft, ada.accessToken)) as { room: { id: string; slug: string } };
  await server.call("RoomService/JoinRoom", { roomId: opened.room.id }, bob.accessToken);
  room = `/rooms/${opened.room.slug}`;
});

afterAll(async () => {
  await browser?.close();
  await server?.dispose();
});

/** check expects that axe finds nothing, and keeps a picture. */
async function check(page: Page, name: string): Promise<void> {
  const found = await axeFinds(page);
  await screenshot(page, name);
  expect.soft(found, name).toEqual([]);
}

const looks: [name: string, options: BrowserContextOptions][] = [
  ["light", { colorScheme: "light" }],
  ["dark", { colorScheme: "dark", viewport: { width: 390, height: 844 } }],
  ["arabic", { locale: "ar" }],
];

test.each(looks)("axe finds nothing on any page: %s", async (look, options) => {
  // A script from outside is what the page's policy forbids, and what axe is.
  const ada = await person(browser, { ...options, bypassCSP: true, reducedMotion: "reduce" });
  const page = await ada.open(server.url);
  await page.locator("h2").waitFor();
  await check(page, `${look}-lobby`);
  await page.goto(`${server.url}/register`);
  await page.locator('form button[type="submit"]').click();
  await page.locator('[aria-invalid="true"]').first().waitFor();
  await check(page, `${look}-register`);
  await page.goto(`${server.url}/login`);
  await page.locator('[name="login"]').fill("ada");
  await page.locator('[name="password"]').fill(password);
  await check(page, `${look}-login`);
  await page.locator('form button[type="submit"]').click();

  await page.locator("a.bar").click();
  await page.locator("#message").fill("¿Qué tal?");
  await page.locator("#message").press("Enter");
  await page.locator(".message:not(.sending)").first().waitFor();
  await check(page, `${look}-room`);
  await page.locator('li[data-user="bob"] button').click();
  await page.locator("dialog").waitFor();
  await check(page, `${look}-person-dialog`);
  await page.keyboard.press("Escape");
  await page.locator(".actions .button").first().click();
  await page.locator('dialog [name="name"]').waitFor();
  await check(page, `${look}-edit-dialog`);
  await page.keyboard.press("Escape");
  await page.locator("header .opener").click();
  await page.locator("[popover].menu select").first().waitFor();
  await check(page, `${look}-menu`);

  const pages: [path: string, ready: string][] = [
    ["/people", "h1"],
    ["/people/bob", "article h1"],
    ["/settings", 'form [name="bio"]'],
    ["/settings/security", ".devices li"],
    ["/nothing/here", "h1"],
  ];
  for (const [path, ready] of pages) {
    await page.goto(server.url + path);
    await page.locator(ready).first().waitFor();
    await check(page, `${look}${path.replaceAll("/", "-")}`);
  }
  expect(ada.complaints).toEqual([]);
  await ada.close();
});

test("the keyboard is enough, and the focus is where one is", async () => {
  const bob = await person(browser, { reducedMotion: "reduce" });
  const page = await bob.open(`${server.url}/login?to=${encodeURIComponent(room)}`);
  const focused = () => page.evaluate(() => document.activeElement?.outerHTML.slice(0, 200) ?? "");
  await page.getByLabel("E-mail or username").focus();
  await page.keyboard.type("bob");
  await page.keyboard.press("Tab");
  await page.keyboard.type(password);
  await page.keyboard.press("Enter");

  // On another page the focus is on its title, so that it is read.
  await page.getByRole("heading", { level: 1, name: "Tapas y charla" }).waitFor();
  await expect.poll(focused).toContain("<h1");
  const seat = page.locator('li[data-user="ada"] button');
  await seat.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  for (let i = 0; i < 6; i++) {
    await page.keyboard.press("Tab");
    expect(await page.evaluate(() => document.activeElement === document.body || document.activeElement?.closest("dialog") !== null)).toBe(true);
  }
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await expect.poll(() => seat.evaluate((element) => element === document.activeElement)).toBe(true);

  // The first stop of a page leads past what all pages have.
  await page.goto(server.url);
  await page.getByRole("heading", { level: 1 }).waitFor();
  await page.keyboard.press("Tab");
  expect(await focused()).toContain("Skip to the content");
  await page.keyboard.press("Enter");
  await expect.poll(focused).toContain("<main");
  expect(bob.complaints).toEqual([]);
  await bob.close();
});
