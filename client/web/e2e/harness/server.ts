// A server of one's own: the program, embedded, on a free port of this machine, with an empty directory.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** Where `make build` puts the program; FREE2TALK_BIN names another. */
const program = process.env.FREE2TALK_BIN ?? fileURLToPath(new URL("../../../../bin/free2talk", import.meta.url));

/** How long a server may take to begin or to end, on a busy machine. */
const patience = 60_000;

/** ServerOptions is how a server is started. */
export interface ServerOptions {
  /** Flags besides those for the address and the directory. */
  flags?: string[];
  /** Variables besides this process's. */
  env?: Record<string, string>;
  /** Rate limits: `auth=off,…`. Unset: none, since a test registers more people than a house does. */
  rateLimits?: string;
}

/** shared are the variables by which several servers share a Postgres and a Redis, which `make e2e` starts. */
export function shared(): Record<string, string> {
  const { FREE2TALK_TEST_DATABASE_URL: postgres, FREE2TALK_TEST_REDIS_URL: redis } = process.env;
  if (!postgres || !redis) throw new Error("there is no Postgres or no Redis: run this by make e2e");
  return { DATABASE_URL: postgres, REDIS_URL: redis, FREE2TALK_SECRET: randomBytes(32).toString("base64") };
}

const unlimited = "auth=off,strict=off,room_create=off,message=off,api=off";

/** Server is a server that runs, or can be started again on the same address and data. */
export class Server {
  private child: ChildProcess | undefined;
  private output = "";

  private constructor(
    readonly port: number,
    private readonly dir: string,
    private readonly options: ServerOptions,
  ) {}

  /** The origin of the server. */
  get url(): string {
    return `${this.options.flags?.includes("--tls-self-signed") ? "https" : "http"}://127.0.0.1:${this.port}`;
  }

  /** What the server has logged. */
  get log(): string {
    return this.output;
  }

  /** start runs a new server, and resolves when it serves. */
  static async start(options: ServerOptions = {}): Promise<Server> {
    const dir = await mkdtemp(join(tmpdir(), "free2talk-e2e-"));
    const server = new Server(await freePort(), dir, options);
    await server.run();
    return server;
  }

  /** run starts the program. Resolves when it is ready. */
  async run(): Promise<void> {
    const { flags = [], env = {}, rateLimits = unlimited } = this.options;
    const address = ["--listen", `127.0.0.1:${this.port}`, "--data-dir", this.dir];
    const limits = rateLimits === "" ? [] : ["--rate-limits", rateLimits];
    const child = spawn(program, ["serve", ...address, ...limits, ...flags], { env: { ...process.env, ...env } });
    this.child = child;
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`the server does not serve:\n${this.output}`)), patience);
      const heard = (data: Buffer) => {
        this.output += data.toString();
        if (!this.output.includes("free2talk serves on")) return;
        clearTimeout(late);
        resolve();
      };
      this.output = "";
      child.stderr?.on("data", heard);
      child.stdout?.on("data", heard);
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`the server ended with ${code}:\n${this.output}`)));
    });
  }

  /** end ends the program: SIGTERM lets it drain, SIGKILL is a crash. */
  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const over = once(child, "exit");
    child.kill(signal);
    await over;
  }

  /** restart ends the program and runs it again on the same address and data. */
  async restart(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    await this.end(signal);
    await this.run();
  }

  /** dispose ends the program and removes what it wrote. */
  async dispose(): Promise<void> {
    await this.end("SIGKILL");
    await rm(this.dir, { recursive: true, force: true });
  }

  /** promote makes an account an administrator, as one does at the server's shell. */
  async promote(username: string): Promise<void> {
    await promisify(execFile)(program, ["user", "promote", username, "--data-dir", this.dir]);
  }

  /** register opens an account, without a browser. */
  async register(username: string, password = passwordOf(username)): Promise<{ accessToken: string; id: string }> {
    const res = await this.call("AuthService/Register", { email: `${username}@example.com`, username, password });
    const { account, tokens } = res as { account: { user: { id: string } }; tokens: { accessToken: string } };
    return { accessToken: tokens.accessToken, id: account.user.id };
  }

  /** call makes a call as curl would. */
  async call(procedure: string, body: unknown, accessToken?: string): Promise<unknown> {
    const res = await fetch(`${this.url}/free2talk.v1.${procedure}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...(accessToken && { Authorization: `Bearer ${accessToken}` }) },
      body: JSON.stringify(body),
    });
    const answer: unknown = await res.json();
    if (!res.ok) throw new Error(`${procedure}: ${JSON.stringify(answer)}`);
    return answer;
  }
}

/** passwordOf is the password of the accounts that the tests open. */
export const passwordOf = (username: string) => `correct horse battery, ${username.length}`;

/** freePort is one that nobody listens on just now. */
export async function freePort(): Promise<number> {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const address = listener.address();
  const closed = once(listener, "close");
  listener.close();
  await closed;
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
