// Line 2 of the issue: servers go and come.

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { hears, join, openRoom, owner, quiet, say, seat, signUp } from "./app/steps.js";
import { launch, person, Proxy, screenshot, Server, shared } from "./harness/index.js";

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

test("two nodes behind a proxy start again one after the other, and nobody notices", async () => {
  const options = { env: { ...shared(), FREE2TALK_TRUSTED_PROXIES: "127.0.0.1/32" } };
  const nodes = await Promise.all([Server.start(options), Server.start(options)]);
  const proxy = await Proxy.start(nodes.map((node) => node.port));
  try {
    const people = await Promise.all(["ada", "bob", "eve"].map(async () => person(browser)));
    const [adas, bobs, eves] = (await Promise.all(people.map((one) => one.open(proxy.url)))) as [Page, Page, Page];
    await signUp(adas, proxy.url, "ada");
    await signUp(bobs, proxy.url, "bob");
    await bobs.goto(await openRoom(adas, "Tapas y charla"));
    await join(bobs);
    await eves.getByText("Tapas y charla").waitFor();
    const noticed = await Promise.all([adas, bobs, eves].map(notices));

    let said = 0;
    const restarts = (async () => {
      for (const node of Array.from({ length: rounds }, () => nodes).flat()) {
        await node.restart();
        await adas.waitForTimeout(untilTrusted);
      }
    })();
    for (let over = false; !over; ) {
      over = await Promise.race([restarts.then(() => true), adas.waitForTimeout(250).then(() => false)]);
      const [from, to] = said % 2 === 0 ? [adas, bobs] : [bobs, adas];
      await say(from, `message ${++said}`);
      await hears(to, `message ${said}`);
    }
    await adas.waitForTimeout(3_000); // whoever was missed is shown as reconnecting by now

    expect(said).toBeGreaterThan(20);
    expect((await Promise.all(noticed.map((all) => all()))).flat()).toEqual([]);
    for (const page of [adas, bobs]) {
      await quiet(page);
      const heard = await page.getByRole("log").getByText(/^message \d+$/).allTextContents();
      expect(heard).toEqual(Array.from({ length: said }, (_, n) => `message ${n + 1}`));
    }
    expect(people.flatMap((one) => one.complaints)).toEqual([]);
    for (const one of people) await one.close();
  } finally {
    await proxy.dispose();
    for (const node of nodes) await node.dispose();
  }
});

/** How often all nodes start again: more often where the long runs are asked for. */
const rounds = process.env.FREE2TALK_TEST_LONG ? 5 : 1;

/** As docs/operations.md asks: until the proxy, which has taken the node for dead meanwhile, has tried it again. */
const untilTrusted = 5_000;

/** notices watches for what would make somebody notice: notes, toasts, and people without a connection. */
async function notices(page: Page): Promise<() => Promise<string[]>> {
  await page.evaluate(() => {
    const notes = () =>
      [...document.querySelectorAll(".net, .toast, .seat:has(.away)")].flatMap((note) => note.textContent?.trim() || []);
    const before = notes();
    const seen = new Set<string>();
    const look = () => {
      for (const note of notes()) if (!before.includes(note)) seen.add(note);
    };
    Object.assign(window, { seen });
    new MutationObserver(look).observe(document.body, { childList: true, subtree: true, attributes: true });
  });
  return () => page.evaluate(() => [...(window as unknown as { seen: Set<string> }).seen]);
}
