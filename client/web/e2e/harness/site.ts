// Pages of other origins that use the library as an application would.

import { createServer, type Server as HttpServer } from "node:http";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { build } from "vite";

const library = fileURLToPath(new URL("../../src/index.ts", import.meta.url));

/** bundled is the library as one script that sets `free2talk`. */
async function bundled(): Promise<string> {
  const result = await build({
    configFile: false,
    logLevel: "error",
    build: { write: false, target: "es2022", lib: { entry: library, formats: ["iife"], name: "free2talk" } },
  });
  const outputs = [result].flat().flatMap((r) => ("output" in r ? r.output : []));
  return outputs.map((o) => ("code" in o ? o.code : "")).join("");
}

let script: Promise<string> | undefined;

/** Site is an origin with one page, which has the library. */
export class Site {
  private constructor(
    readonly url: string,
    private readonly http: HttpServer,
  ) {}

  /** open serves the page on a free port of a host that means this machine: another host is another site. */
  static async open(host: "127.0.0.1" | "localhost" = "127.0.0.1"): Promise<Site> {
    const code = await (script ??= bundled());
    const http = createServer((req, res) => {
      const isScript = req.url === "/free2talk.js";
      res.setHeader("Content-Type", isScript ? "text/javascript" : "text/html");
      res.end(isScript ? code : "<!doctype html><title>another site</title><script src=/free2talk.js></script>");
    }).listen(0, "127.0.0.1");
    await once(http, "listening");
    const address = http.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    return new Site(`http://${host}:${address.port}`, http);
  }

  close(): void {
    this.http.closeAllConnections();
    this.http.close();
  }
}
