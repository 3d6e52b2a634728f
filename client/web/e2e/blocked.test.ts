// A browser that blocks site data: its localStorage throws, and its locks are there and refused.

import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { expect, test } from "vitest";
import { cards, hears, openRoom, say, signUp } from "./app/steps.js";
import { flags, program } from "./harness/browser.js";
import { Person, Server } from "./harness/index.js";

test("a tab whose browser blocks site data works alone", async () => {
  const server = await Server.start();
  const profile = await mkdtemp(join(tmpdir(), "free2talk-blocked-"));
  await mkdir(join(profile, "Default"));
  const blocked = { profile: { default_content_setting_values: { cookies: 2 } } };
  await writeFile(join(profile, "Default", "Preferences"), JSON.stringify(blocked));
  const context = await chromium.launchPersistentContext(profile, { executablePath: program, args: flags, locale: "en-GB" });
  try {
    context.setDefaultTimeout(20_000);
    const ada = new Person(context);
    const page = await ada.open(`${server.url}/healthz`);
    const refused = () => navigator.locks.request("any", () => "").catch((error: Error) => error.name);
    expect(await page.evaluate(refused)).toBe("SecurityError");

    await signUp(page, server.url, "ada");
    await openRoom(page, "Tapas y charla");
    await say(page, "¿Qué tal?");
    await hears(page, "¿Qué tal?");
    const second = await ada.open(server.url);
    await cards(second).getByRole("link", { name: /Tapas y charla/ }).waitFor();
    expect(ada.complaints).toEqual([]);
  } finally {
    await context.close();
    await server.dispose();
    await rm(profile, { recursive: true, force: true });
  }
});
