// Line 4 of the issue: what is wrong stands at its field, and a limit says when to try again.

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openRoom, password, say, signUp } from "./app/steps.js";
import { launch, person, screenshot, Server } from "./harness/index.js";

let server: Server;
let browser: Browser;

beforeAll(async () => {
  server = await Server.start({ rateLimits: "message=3/10s,auth=3/15m,api=off,strict=off,room_create=off" });
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
  await server?.dispose();
});

/** wrong waits until a field is said to be wrong; it returns what its description says. */
async function wrong(page: Page, label: string): Promise<string> {
  const field = page.getByLabel(label, { exact: true });
  await expect.poll(() => field.getAttribute("aria-invalid"), { timeout: 20_000 }).toBe("true");
  const ids = (await field.getAttribute("aria-describedby"))?.split(" ") ?? [];
  return (await Promise.all(ids.map((id) => page.locator(`[id="${id}"]`).textContent()))).join(" ");
}

test("the server's violations stand at their fields, and the first of them has the focus", async () => {
  const ada = await person(browser);
  const page = await ada.open(`${server.url}/register`);
  await page.getByLabel("E-mail").fill("no address");
  await page.getByLabel("Username").fill("a!");
  await page.getByLabel("Password", { exact: true }).fill("short");
  await page.locator("form").getByRole("button", { name: "Sign up" }).click();
  expect(await wrong(page, "E-mail")).toContain("not an e-mail address");
  expect(await wrong(page, "Username")).toContain("3 to 50");
  expect(await wrong(page, "Password")).toContain("At least 8 characters");
  expect(await page.evaluate(() => document.activeElement?.getAttribute("name"))).toBe("email");
  await screenshot(page, "violations");

  await signUp(page, server.url, "ada");
  await page.getByRole("button", { name: "Open a room" }).first().click();
  await page.getByRole("button", { name: "Open the room" }).click();
  expect(await wrong(page, "Name")).toContain("At least 3 characters");
  expect(await wrong(page, "Languages")).toContain("Choose at least 1");
  await page.keyboard.press("Escape");

  // A name that is taken is told at its field too.
  const bob = await person(browser);
  const bobs = await bob.open(`${server.url}/register`);
  await bobs.getByLabel("E-mail").fill("other@example.org");
  await bobs.getByLabel("Username").fill("ADA");
  await bobs.getByLabel("Password", { exact: true }).fill(password);
  await bobs.locator("form").getByRole("button", { name: "Sign up" }).click();
  expect(await wrong(bobs, "Username")).toContain("taken");
  await bob.close();
  expect(ada.complaints).toEqual([]);
  await ada.close();
});

test("limits say when to try again", async () => {
  const cat = await person(browser);
  const page = await cat.open(server.url);
  await signUp(page, server.url, "cat");
  await openRoom(page, "Quick chat");
  for (const text of ["1", "2", "3", "4"]) await say(page, text);
  await page.getByText(/You write faster than anybody can read\..*Try again in \d+ seconds?\./).waitFor();
  await page.getByText("Not sent.").waitFor();
  await screenshot(page, "limited");

  const dan = await person(browser);
  const dans = await dan.open(`${server.url}/login`);
  await dans.getByLabel("E-mail or username").fill("cat");
  await dans.getByLabel("Password", { exact: true }).fill("not the password");
  const enter = dans.locator("form").getByRole("button", { name: "Log in" });
  const limited = dans.getByText(/Too many failed attempts/);
  for (let attempt = 0; attempt < 6 && (await limited.count()) === 0; attempt++) {
    const answered = dans.waitForResponse(/AuthService\/Login/);
    await enter.click();
    await answered;
    await dans.locator('form [role="alert"]').getByText(/wrong|Too many/).waitFor();
  }
  await dans.getByText(/Too many failed attempts\..*Try again in \d+ minutes\./).waitFor();
  await screenshot(dans, "limited-login");
  expect([...cat.complaints, ...dan.complaints]).toEqual([]);
  await cat.close();
  await dan.close();
});
