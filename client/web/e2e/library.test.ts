// The library in a real browser: the lines 3 and 5.

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import type * as Library from "@free2talk/client";
import { launch, type Person, person, Server, Site } from "./harness/index.js";

let browser: Browser;
let server: Server;
let friend: Site; // an allowed origin
let stranger: Site; // one that is not, of the same site
let enemy: Site; // another site

/** What a page of a site has. */
declare const free2talk: typeof Library;
declare global {
  var client: Library.Free2Talk;
  /** The token that the page's fetch spoils; and the last one that it saw. */
  var spoiled: string;
  var seen: string;
}

beforeAll(async () => {
  [friend, stranger, enemy] = await Promise.all([Site.open(), Site.open(), Site.open("localhost")]);
  server = await Server.start({ flags: ["--allowed-origins", friend.url] });
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
  await server?.dispose();
  for (const site of [friend, stranger, enemy]) site?.close();
});

/** begin makes a client in a page; its fetch spoils a token that a test names. */
const begin = (page: Page, format: "json" | "binary" = "binary", locks = true) =>
  page.evaluate(
    ([baseUrl, format, locks]) => {
      if (!locks) Object.defineProperty(navigator, "locks", { value: undefined });
      globalThis.client = free2talk.createFree2Talk({
        baseUrl,
        format,
        fetch: (input, init) => {
          const headers = new Headers(init?.headers);
          const token = headers.get("Authorization");
          if (token) globalThis.seen = token;
          if (token && token === globalThis.spoiled) headers.set("Authorization", `${token}x`);
          return fetch(input, { ...init, headers });
        },
      });
    },
    [server.url, format, locks] as const,
  );

const register = (page: Page, username: string) =>
  page.evaluate(async (username) => {
    const { account } = await client.auth.register({
      username,
      email: `${username}@example.com`,
      password: "correct horse battery",
    });
    return account?.user?.username;
  }, username);

const me = (page: Page) => page.evaluate(async () => (await client.auth.getMe({})).account?.user?.username);

const status = (page: Page) => page.evaluate(() => client.session.current.status);

/** refreshes counts the refreshes of somebody's browser. */
function refreshes(who: Person): () => number {
  let count = 0;
  who.context.on("request", (request) => {
    if (request.method() === "POST" && request.url().endsWith("/Refresh")) count++;
  });
  return () => count;
}

/** clearings gathers the answers that make somebody's browser forget its cookie. */
function clearings(who: Person): () => Promise<string[]> {
  const cookies: Promise<string>[] = [];
  who.context.on("response", (res) => cookies.push(res.allHeaders().then((headers) => headers["set-cookie"] ?? "")));
  return async () => (await Promise.all(cookies)).filter((cookie) => /Max-Age=0/i.test(cookie));
}

for (const locks of [true, false]) {
  test(`checklist 44: three tabs refresh at once fifty times and nobody is logged out, ${locks ? "with" : "without"} Web Locks`, async () => {
    const ada = await person(browser);
    const tabs = await Promise.all([1, 2, 3].map(() => ada.open(friend.url)));
    const [first, second, third] = tabs as [Page, Page, Page];
    for (const tab of tabs) await begin(tab, "binary", locks);
    const count = refreshes(ada);
    const name = locks ? "ada" : "adaAlone";
    await register(first, name);
    if (!locks) for (const tab of tabs.slice(1)) await tab.reload().then(() => begin(tab, "binary", false));
    for (const tab of tabs) expect(await me(tab)).toBe(name);
    const before = count();
    const emptied = clearings(ada);
    for (let round = 0; round < 50; round++) {
      await Promise.all(tabs.map((tab) => tab.evaluate(() => void (globalThis.spoiled = globalThis.seen))));
      expect(await Promise.all(tabs.map(me))).toEqual([name, name, name]);
    }
    expect(await emptied()).toEqual([]);
    expect(await Promise.all(tabs.map(status))).toEqual(Array(3).fill("authenticated"));
    // Fifty with Web Locks, seldom one more on a machine so busy that a tab does not answer another within its time;
    // up to three times as many without.
    expect(count() - before).toBeGreaterThan(25);
    expect(count() - before).toBeLessThanOrEqual(locks ? 75 : 150);

    await second.evaluate(() => client.auth.logout({}));
    for (const tab of [first, third]) await tab.waitForFunction(() => client.session.current.status === "anonymous");
    for (const tab of tabs) await expect(me(tab)).rejects.toThrow("unauthenticated");
    expect(await emptied()).toHaveLength(1);
    await ada.close();
  });
}

for (const format of ["json", "binary"] as const) {
  test(`checklist 39, 43: a page of an allowed origin uses the library, ${format}`, async () => {
    const bo = await person(browser);
    const page = await bo.open(friend.url);
    await begin(page, format);
    expect(await register(page, `bo_${format}`)).toBe(`bo_${format}`);
    const room = await page.evaluate(async () => {
      const stop = new AbortController();
      const told: string[] = [];
      for await (const { event } of client.watchRooms({ language: "es" }, { signal: stop.signal })) {
        told.push(event.case ?? "");
        if (event.case === "snapshot") void client.rooms.createRoom({ name: "Charla", languages: ["es"] });
        if (event.case === "roomCreated") {
          stop.abort();
          return { told, name: event.value.room?.name };
        }
      }
      return { told, name: undefined };
    });
    expect(room).toEqual({ told: ["snapshot", "roomCreated"], name: "Charla" });

    const problem = await page.evaluate(() =>
      client.rooms.createRoom({ name: "x", languages: ["es"] }).catch((e: unknown) => free2talk.violations(e)),
    );
    expect(problem).toMatchObject([{ field: "name", rule: "string.min_len" }]);
    const another = await page.evaluate(() =>
      client.rooms.createRoom({ name: "Otra", languages: ["es"] }).catch((e: unknown) => [free2talk.reasonOf(e), free2talk.metadataOf(e)]),
    );
    expect(another).toMatchObject(["OWNS_A_ROOM", { room_id: expect.any(String) as string }]);

    // The cookie is no script's, and brings the session back after a reload.
    expect(await page.evaluate(() => document.cookie)).toBe("");
    await page.reload();
    await begin(page, format);
    expect(await me(page)).toBe(`bo_${format}`);
    await bo.close();
  });
}

test("checklist 43: a page of another origin is refused, of the same site or of another", async () => {
  const cy = await person(browser);
  const page = await cy.open(friend.url);
  await begin(page);
  await register(page, "cyd");
  const cookie = async () => (await cy.context.cookies(server.url)).find((c) => c.name === "__Host-f2t_refresh");
  const before = await cookie();
  expect(before).toMatchObject({ httpOnly: true, secure: true, sameSite: "Strict", path: "/" });

  for (const site of [stranger, enemy]) {
    const tab = await cy.open(site.url);
    await begin(tab);
    const refused = await tab.evaluate(() =>
      client.rooms.listRooms({}).then(
        () => "let in",
        (e: unknown) => (free2talk.unreachable(e) ? "refused" : String(e)),
      ),
    );
    expect(refused).toBe("refused");
    const restored = await tab.evaluate(() => client.session.restore().then((s) => s.status, () => "refused"));
    expect(restored).not.toBe("authenticated");
  }
  expect((await cookie())?.value).toBe(before?.value);
  await cy.close();
});

test("checklist 40, 41: a forged cross-site refresh is refused, however it is sent, and turns nothing over", async () => {
  const di = await person(browser);
  const page = await di.open(friend.url);
  await begin(page);
  await register(page, "dia");
  const cookie = async () => (await di.context.cookies(server.url)).find((c) => c.name === "__Host-f2t_refresh")?.value;
  const before = await cookie();

  const target = `${server.url}/free2talk.v1.AuthService/Refresh`;
  for (const site of [stranger, enemy]) {
    const forger = await di.open(site.url);
    const statuses: number[] = [];
    forger.on("response", (res) => {
      if (res.url() === target && res.request().method() === "POST") statuses.push(res.status());
    });
    await forger.evaluate(async (target) => {
      for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/json"]) {
        const init = { method: "POST", credentials: "include", body: "{}", headers: { "Content-Type": type } } as const;
        await fetch(target, { ...init, mode: "no-cors" }).catch(() => {});
        await fetch(target, init).catch(() => {});
      }
    }, target);
    // The browser shows a page of its own for such an answer, so what is waited for is the answer.
    const answered = forger.waitForResponse((res) => res.url() === target && res.request().isNavigationRequest());
    await forger.evaluate((target) => {
      document.body.innerHTML = `<form method="post" enctype="text/plain" action="${target}"><input name='{"a":"' value='"}'></form>`;
      document.forms[0]?.submit();
    }, target);
    await answered;
    expect(statuses.length).toBeGreaterThan(0);
    expect(statuses.every((s) => s === 415 || s === 403)).toBe(true);
    expect(await cookie()).toBe(before);
  }
  await page.reload();
  await begin(page);
  expect(await me(page)).toBe("dia");
  await di.close();
});

test("checklist 45: by TLS with a certificate of its own the server speaks HTTP/2", async () => {
  const secure = await Server.start({ flags: ["--tls-self-signed"] });
  try {
    const el = await person(browser, { ignoreHTTPSErrors: true });
    const page = await el.open(`${secure.url}/readyz`);
    const protocol = await page.evaluate(() => {
      const [entry] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
      return entry?.nextHopProtocol;
    });
    expect(protocol).toBe("h2");
    await el.close();
  } finally {
    await secure.dispose();
  }
});
