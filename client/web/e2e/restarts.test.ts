// Line 2 of the issue: servers go and come.

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { hears, join, openRoom, owner, say, seat, signUp } from "./app/steps.js";
import { launch, person, screenshot, Server } from "./harness/index.js";

let browser: Browser;

beforeAll(async () => {
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
});

test("a server that is killed and started again is noticed, said, and got over", async () => {
  const server = await Server.start();
  try {
    const ada = await person(browser);
    const bob = await person(browser);
    const adas = await ada.open(server.url);
    const bobs = await bob.open(server.url);
    await signUp(adas, server.url, "ada");
    await signUp(bobs, server.url, "bob");
    await bobs.goto(await openRoom(adas, "Tapas y charla"));
    await join(bobs);
    await say(adas, "before");
    await hears(bobs, "before");

    await server.end("SIGKILL");
    await adas.getByText("The connection is lost. Trying again…").waitFor();
    await screenshot(adas, "lost");
    await say(adas, "meanwhile");
    await adas.getByText("Not sent.").waitFor();

    await server.run();
    await adas.getByText("You are connected again.").waitFor({ timeout: 40_000 });
    await bobs.getByText("The connection is lost").waitFor({ state: "detached", timeout: 40_000 });
    await screenshot(adas, "connected-again");
    await seat(adas, "bob").waitFor();
    await owner(bobs, "ada");
    await adas.getByRole("button", { name: "Send again" }).click();
    await hears(bobs, "meanwhile");
    await say(bobs, "after");
    await hears(adas, "after");
    expect(await adas.getByRole("log").getByText("meanwhile").count()).toBe(1);
    expect([...ada.complaints, ...bob.complaints]).toEqual([]);
    await ada.close();
    await bob.close();
  } finally {
    await server.dispose();
  }
});
