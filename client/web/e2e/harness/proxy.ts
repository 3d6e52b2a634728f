// A proxy of one's own: nginx, as deploy/proxy has it, on a free port of this machine.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { freePort } from "./server.js";

const shipped = new URL("../../../../deploy/proxy/nginx.conf", import.meta.url);

/** NGINX names the program where it is not Debian's. */
const program = process.env.NGINX ?? "/usr/sbin/nginx";

/** Proxy is an nginx before some nodes. Its time-outs are nginx's own, and not those that deploy/proxy sets. */
export class Proxy {
  private constructor(
    readonly url: string,
    private readonly dir: string,
    private readonly child: ChildProcess,
  ) {}

  /** start resolves when it answers. */
  static async start(ports: number[]): Promise<Proxy> {
    const dir = await mkdtemp(join(tmpdir(), "free2talk-proxy-"));
    const port = await freePort();
    await mkdir(join(dir, "temp"));
    await writeFile(join(dir, "nginx.conf"), configured(await readFile(shipped, "utf8"), dir, port, ports));
    const child = spawn(program, ["-p", dir, "-c", join(dir, "nginx.conf"), "-e", "stderr", "-g", "daemon off;"]);
    let output = "";
    child.stderr.on("data", (data: Buffer) => (output += data.toString()));
    const failed = once(child, "exit").then(([code]) => {
      throw new Error(`nginx ended with ${code}: ${output}`);
    });
    const url = `http://127.0.0.1:${port}`;
    await Promise.race([failed, answers(`${url}/readyz`)]);
    failed.catch(() => {}); // it ends when it is told to
    return new Proxy(url, dir, child);
  }

  /** dispose ends it and removes what it wrote. */
  async dispose(): Promise<void> {
    const over = once(this.child, "exit");
    if (this.child.exitCode === null && this.child.kill("SIGTERM")) await over;
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** configured is what is shipped, for another place. */
function configured(text: string, dir: string, port: number, ports: number[]): string {
  const temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  const nodes = ports.map((node) => `        server 127.0.0.1:${node} max_fails=2 fail_timeout=1s;`);
  const changed = text
    .replace(/^.*server node1:.*$/m, nodes.join("\n"))
    .replace(/^.*server node\d+:.*\n/gm, "")
    .replace(/^.*_timeout\s.*\n/gm, "")
    .replace(/listen\s+8080;/, `listen 127.0.0.1:${port};`)
    .replace(/pid\s+\S+;/, `pid ${dir}/nginx.pid;`)
    .replace(/worker_processes\s+auto;/, "worker_processes 1;")
    .replace(/http \{/, `http {\n${temps.map((name) => `    ${name}_temp_path ${dir}/temp/${name};`).join("\n")}`);
  if (!ports.every((node) => changed.includes(`:${node} `))) throw new Error("deploy/proxy/nginx.conf has changed its form");
  return changed;
}

async function answers(url: string): Promise<void> {
  for (const until = Date.now() + 20_000; Date.now() < until; await pause(50)) {
    try {
      if ((await fetch(url)).ok) return;
    } catch {
      // it does not listen yet
    }
  }
  throw new Error(`${url} does not answer`);
}
