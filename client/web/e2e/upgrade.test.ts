// Line 2 of the issue, while it lasts: two versions behind the proxy that is shipped.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type Server as HttpServer } from "node:http";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { Proxy } from "./harness/index.js";

/** What the page that is built names, without the slash. */
const named = [...readFileSync(new URL("../dist/index.html", import.meta.url), "utf8").matchAll(/"\/(assets\/[^"]+)"/g)];

/** Version is a node with the app that is built, but for the names of its hashed files: no other version has them. */
class Version {
  /** The requests that it had. */
  asked: string[] = [];

  private constructor(
    readonly files: string[],
    private readonly http: HttpServer,
  ) {
    http.on("request", (req) => this.asked.push(`${req.method} ${req.url}`));
  }

  static async start(name: string): Promise<Version> {
    const files = named.map(([, file]) => `/${file}`.replace("assets/", `assets/${name}-`));
    const has = new Set<string | undefined>(["/readyz", ...files]);
    const http = createServer((req, res) => res.writeHead(has.has(req.url) ? 200 : 404).end()).listen(0, "127.0.0.1");
    await once(http, "listening");
    return new Version(files, http);
  }

  get port(): number {
    const address = this.http.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    return address.port;
  }

  close(): void {
    this.http.closeAllConnections();
    this.http.close();
  }
}

let versions: Version[];
let proxy: Proxy;

beforeAll(async () => {
  versions = await Promise.all(["old", "new"].map(async (name) => Version.start(name)));
  proxy = await Proxy.start(versions.map((version) => version.port));
});

beforeEach(() => {
  for (const version of versions) version.asked = [];
});

afterAll(async () => {
  await proxy?.dispose();
  for (const version of versions ?? []) version.close();
});

const statuses = async (paths: string[], init?: RequestInit) =>
  Promise.all(paths.map(async (path) => (await fetch(proxy.url + path, init)).status));

test("all that a page names is there, whichever version it is of", async () => {
  expect(named.length).toBeGreaterThan(1);
  for (let load = 0; load < 20; load++) {
    for (const { files } of versions) expect(await statuses(files), files.join()).toEqual(files.map(() => 200));
  }
});

test("a file that no version has is missed by both, and neither is taken for dead", async () => {
  const missing = Array.from({ length: 20 }, (_, n) => `/assets/missing-${n}.js`);
  expect(await statuses(missing)).toEqual(missing.map(() => 404));
  const all = missing.map((path) => `GET ${path}`).sort();
  for (const { asked } of versions) expect(asked.sort()).toEqual(all);
});

test("what is no hashed file, or no GET, is asked once", async () => {
  expect(await statuses(["/missing.js"])).toEqual([404]);
  expect(await statuses(["/assets/missing.js"], { method: "POST", body: "{}" })).toEqual([404]);
  expect(versions.flatMap(({ asked }) => asked).sort()).toEqual(["GET /missing.js", "POST /assets/missing.js"]);
});
