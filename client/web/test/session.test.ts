import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { AuthService, type Free2Talk, reasonOf, RoomService, type SessionState } from "@free2talk/client";
import { expect, test } from "vitest";
import { Browser, open, settle, type Tab, wire } from "./fakes.js";

const life = 15 * 60_000;

/** Site is a server whose one cookie is a field. */
class Site {
  session = "";
  generation = 0;
  refreshes = 0;
  calls: string[] = [];
  away = 0; // how many of the next refreshes fail
  refuse = ""; // what GetMe and Refresh fail with
  accepted = (token: string) => token === this.token;

  constructor(private readonly clock: () => number) {}

  get token(): string {
    return `${this.session}.${this.generation}`;
  }

  readonly routes = (router: ConnectRouter): void => {
    router.service(AuthService, {
      login: (req) => {
        if (!req.cookie && req.password !== "memory") throw wire(Code.InvalidArgument, "NO_COOKIE");
        this.session = `session ${req.password}`;
        this.generation++;
        return { account: { email: "ada@example.com" }, tokens: this.tokens(req.cookie) };
      },
      refresh: async (req) => {
        this.refreshes++;
        await new Promise((resolve) => setImmediate(resolve));
        if (this.away > 0) {
          this.away--;
          throw wire(Code.Unavailable, "DATABASE_UNAVAILABLE", { retryMs: 100 });
        }
        if (!this.session) throw wire(Code.Unauthenticated, "REFRESH_INVALID");
        if (this.refuse) throw wire(Code.Unauthenticated, this.refuse);
        this.generation++;
        return { tokens: this.tokens(req.refreshToken === "") };
      },
      logout: (_, context) => {
        this.check(context);
        this.session = "";
        return {};
      },
      getMe: (_, context) => {
        this.check(context);
        return { currentRoomId: this.session };
      },
    });
    router.service(RoomService, {
      listRooms: (_, context) => {
        this.calls.push(context.requestHeader.get("Authorization") ?? "nobody");
        return { totalSize: this.calls.length };
      },
    });
  };

  private check(context: HandlerContext): void {
    const token = context.requestHeader.get("Authorization")?.replace("Bearer ", "") ?? "";
    this.calls.push(token);
    if (this.refuse) throw wire(Code.Unauthenticated, this.refuse);
    if (!token) throw wire(Code.Unauthenticated, "TOKEN_MISSING");
    if (!this.accepted(token)) throw wire(Code.Unauthenticated, "TOKEN_EXPIRED");
  }

  private tokens(cookie: boolean) {
    return {
      accessToken: this.token,
      accessExpiresAt: timestampFromMs(this.clock() + life),
      sessionId: this.session,
      refreshToken: cookie ? "" : `refresh ${this.generation}`,
    };
  }
}

function world(tabs: number, options = {}): { site: Site; tabs: Tab[]; apps: Free2Talk[]; browser: Browser } {
  const browser = new Browser();
  const all = Array.from({ length: tabs }, () => browser.tab());
  const first = all[0];
  if (!first) throw new Error("no tab");
  const site = new Site(() => first.now());
  return { browser, site, tabs: all, apps: all.map((tab) => open(tab, site.routes, options)) };
}

const login = (app: Free2Talk, password: string) =>
  app.auth.login({ login: { case: "username", value: "ada" }, password });

/** got is an element that must be there. */
function got<T>(all: readonly T[], at: number): T {
  const one = all[at];
  if (one === undefined) throw new Error(`there is no ${at}`);
  return one;
}

test("a visitor costs no refresh, and is nobody", async () => {
  const { site, apps } = world(1);
  const app = got(apps, 0);
  expect(await app.session.restore()).toEqual({ status: "anonymous" });
  await app.rooms.listRooms({});
  expect([site.refreshes, site.calls]).toEqual([0, ["nobody"]]);
  await expect(app.auth.getMe({})).rejects.toSatisfy((e) => reasonOf(e) === "TOKEN_MISSING");
});

test("a login is for all tabs, and is taken up again after a reload without a refresh where another tab knows", async () => {
  const { site, apps, browser } = world(2);
  await login(got(apps, 0), "1");
  await settle();
  expect(apps.map((a) => a.session.current)).toEqual(Array(2).fill({ status: "authenticated", sessionId: "session 1" }));
  expect((await got(apps, 1).auth.getMe({})).currentRoomId).toBe("session 1");

  const third = open(browser.tab(), site.routes);
  expect(third.session.current.status).toBe("unknown");
  expect((await third.auth.getMe({})).currentRoomId).toBe("session 1");
  expect(site.refreshes).toBe(0);

  for (const app of [...apps, third]) app.close();
  await settle();
  const again = open(browser.tab(), site.routes);
  expect(await again.session.restore()).toMatchObject({ status: "authenticated" });
  expect(site.refreshes).toBe(1);
});

// The line 3, in memory: three tabs, fifty times, at once.
test("tabs that refresh at once do it once for all of them", async () => {
  const { site, apps } = world(3);
  await login(got(apps, 0), "1");
  await settle();
  for (let round = 1; round <= 50; round++) {
    site.accepted = (token) => token === site.token && site.refreshes >= round;
    const answers = await Promise.all(apps.flatMap((app) => [app.auth.getMe({}), app.auth.getMe({})]));
    expect(answers.every((a) => a.currentRoomId === "session 1")).toBe(true);
    expect(site.refreshes).toBe(round);
  }
  expect(apps.every((a) => a.session.current.status === "authenticated")).toBe(true);
});

test("what a tab says that has not heard of the newest token yet changes nothing", async () => {
  const { apps, browser, site } = world(2);
  await login(got(apps, 0), "1");
  await settle();
  const held: unknown[] = [];
  const spy = browser.join("free2talk session https://api.example");
  spy.onmessage = ({ data }) => held.push((data as { held?: unknown }).held);
  spy.postMessage({ kind: "ask", by: "spy" });
  await settle();
  const old = got(held, 0);
  site.accepted = (token) => token === site.token && site.refreshes === 1;
  await got(apps, 0).auth.getMe({});
  for (const answer of [true, undefined]) spy.postMessage({ kind: "tokens", held: { ...(old as object), endsAt: Infinity }, answer });
  await settle();
  for (const app of apps) await app.auth.getMe({});
  expect([site.refreshes, site.calls.slice(-2)]).toEqual([1, ["session 1.2", "session 1.2"]]);
});

test("a token that is about to run out is refreshed before it is used", async () => {
  const { site, tabs, apps } = world(1);
  await login(got(apps, 0), "1");
  await got(tabs, 0).pass(life - 60_000);
  await got(apps, 0).auth.getMe({});
  expect(site.refreshes).toBe(0);
  await got(tabs, 0).pass(40_000);
  await got(apps, 0).auth.getMe({});
  expect([site.refreshes, site.calls.at(-1)]).toEqual([1, "session 1.2"]);
});

test("while the server is away a token that still holds is used, and nobody is logged out", async () => {
  const { site, tabs, apps } = world(1);
  const [tab, app] = [got(tabs, 0), got(apps, 0)];
  await login(app, "1");
  await tab.pass(life - 10_000);
  site.away = 3;
  const me = app.auth.getMe({});
  await tab.pass(2_000);
  expect((await me).currentRoomId).toBe("session 1");
  expect(site.refreshes).toBe(3);

  await tab.pass(20_000);
  site.away = 3;
  const refused = app.auth.getMe({}).catch((e: unknown) => e);
  await tab.pass(2_000);
  expect(reasonOf(await refused)).toBe("DATABASE_UNAVAILABLE");
  expect(app.session.current.status).toBe("authenticated");
  expect((await app.auth.getMe({})).currentRoomId).toBe("session 1");
});

test("logging out in one tab logs out the others", async () => {
  const { site, apps, browser } = world(3);
  await login(got(apps, 1), "1");
  await settle();
  const heard: SessionState[] = [];
  got(apps, 2).session.subscribe((state) => heard.push(state));
  await got(apps, 0).auth.logout({});
  await settle();
  expect(apps.map((a) => a.session.current)).toEqual(Array(3).fill({ status: "anonymous", ended: "LOGGED_OUT" }));
  expect(heard.map((s) => s.status)).toEqual(["authenticated", "anonymous"]);
  await expect(got(apps, 2).auth.getMe({})).rejects.toSatisfy((e) => reasonOf(e) === "TOKEN_MISSING");
  expect(site.refreshes).toBe(0);
  expect(await open(browser.tab(), site.routes).session.restore()).toEqual({ status: "anonymous" });
});

test("a session that the server has ended is over in all tabs, and says why", async () => {
  const { site, apps } = world(2);
  await login(got(apps, 0), "1");
  await settle();
  site.refuse = "SESSION_REVOKED";
  await expect(got(apps, 1).auth.getMe({})).rejects.toSatisfy((e) => reasonOf(e) === "SESSION_REVOKED");
  await settle();
  expect(apps.map((a) => a.session.current)).toEqual(Array(2).fill({ status: "anonymous", ended: "SESSION_REVOKED" }));
});

test("another login takes the place of the first in all tabs", async () => {
  const { apps } = world(2);
  await login(got(apps, 0), "1");
  await settle();
  await login(got(apps, 1), "2");
  await settle();
  expect(apps.map((a) => a.session.current)).toEqual(Array(2).fill({ status: "authenticated", sessionId: "session 2" }));
});

test("without Web Locks each tab refreshes for itself", async () => {
  const browser = new Browser();
  const less = { locks: true, channel: true, storage: true } as const;
  const tabs = [browser.tab(less), browser.tab(less)];
  const site = new Site(() => got(tabs, 0).now());
  site.session = "session 1";
  const apps = tabs.map((tab) => open(tab, site.routes));
  expect(await got(apps, 0).session.restore()).toMatchObject({ status: "authenticated" });
  expect(await got(apps, 1).session.restore()).toMatchObject({ status: "authenticated" });
  site.accepted = () => true;
  await Promise.all(apps.map((a) => a.auth.getMe({})));
  expect(site.refreshes).toBe(2);
  for (const tab of tabs) expect(tab.locks).toBeUndefined();
});

test("where locks are refused a tab logs in and refreshes by itself", async () => {
  const browser = new Browser();
  const tab = browser.tab({ locks: "refused", channel: true, storage: true });
  const site = new Site(() => tab.now());
  const app = open(tab, site.routes);
  await login(app, "1");
  expect(app.session.current).toEqual({ status: "authenticated", sessionId: "session 1" });
  await tab.pass(life - 10_000);
  expect((await app.auth.getMe({})).currentRoomId).toBe("session 1");
  expect([site.refreshes, site.calls.at(-1)]).toEqual([1, "session 1.2"]);
  expect(browser.refusals).toBeLessThan(10);
});

test("without Web Locks a logout still reaches the other tabs", async () => {
  const browser = new Browser();
  const tabs = [browser.tab({ locks: true }), browser.tab({ locks: true })];
  const site = new Site(() => got(tabs, 0).now());
  const apps = tabs.map((tab) => open(tab, site.routes));
  await login(got(apps, 0), "1");
  await settle();
  await got(apps, 1).auth.logout({});
  await settle();
  expect(apps.map((a) => a.session.current.status)).toEqual(["anonymous", "anonymous"]);
});

test("in memory the refresh token is the client's own", async () => {
  const { site, apps, browser } = world(2, { keep: "memory" });
  await login(got(apps, 0), "memory");
  await settle();
  expect(apps.map((a) => a.session.current.status)).toEqual(["authenticated", "anonymous"]);
  expect(browser.storage.size).toBe(0);
  site.accepted = (token) => token === site.token && site.refreshes > 0;
  await got(apps, 0).auth.getMe({});
  expect(site.refreshes).toBe(1);
});
