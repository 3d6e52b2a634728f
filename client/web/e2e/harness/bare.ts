// A Chromium without a library on it: what watches a page closely slows it down, by a script of its own and by the
// stack of each request, for which V8 compiles the page's script a second time. So one asks the browser, not the page.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import { flags, program } from "./browser.js";

/** How often the browser is asked, in milliseconds. */
const often = 200;
/** How long something may take that is waited for, in milliseconds. */
const within = 60_000;

type Answer = Record<string, unknown>;

/** Bare is a browser on a pipe; see https://chromedevtools.github.io/devtools-protocol. */
export class Bare {
  private readonly waiting = new Map<number, { resolve(answer: Answer): void; reject(error: Error): void }>();
  private asked = 0;
  private heard = "";

  private constructor(
    private readonly browser: ChildProcess,
    private readonly profile: string,
  ) {
    const answers = browser.stdio[4] as Readable;
    answers.setEncoding("utf8").on("data", (text: string) => this.hear(text));
    browser.once("exit", () => {
      for (const { reject } of this.waiting.values()) reject(new Error("the browser has ended"));
    });
  }

  /** start opens a browser with an empty profile. */
  static async start(): Promise<Bare> {
    const profile = await mkdtemp(join(tmpdir(), "bare-"));
    const args = [...flags, "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank"];
    return new Bare(spawn(program, args, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] }), profile);
  }

  /**
   * visit opens a page in a window of its own, with an empty cache, on a processor that is so many times slower, once the
   * browser has done with the window. A script runs in the page before its own; the visit ends when the page's title begins
   * with a word, and returns the title.
   */
  async visit(url: string, slower: number, script: string, word: string): Promise<string> {
    const { browserContextId } = await this.ask("Target.createBrowserContext");
    const { targetId } = await this.ask("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await this.ask("Target.attachToTarget", { targetId, flatten: true });
    await this.ask("Page.enable", {}, sessionId);
    await this.ask("Page.addScriptToEvaluateOnNewDocument", { source: script }, sessionId);
    await this.calm();
    await this.ask("Emulation.setCPUThrottlingRate", { rate: slower }, sessionId);
    await this.ask("Page.navigate", { url }, sessionId);
    const title = await this.until(async () => {
      const { targetInfo } = (await this.ask("Target.getTargetInfo", { targetId })) as { targetInfo: { title: string } };
      return targetInfo.title.startsWith(word) && targetInfo.title;
    });
    await this.ask("Target.disposeBrowserContext", { browserContextId });
    return title;
  }

  /** close ends the browser. */
  async close(): Promise<void> {
    const ended = once(this.browser, "exit");
    this.browser.kill();
    await ended;
    await rm(this.profile, { recursive: true, force: true, maxRetries: 10, retryDelay: often });
  }

  /** calm waits until the browser does nothing: a new window is a page of its own, with hundreds of scripts. */
  private async calm(): Promise<void> {
    let before = 0;
    let times = 0;
    await this.until(async () => {
      const { processInfo } = (await this.ask("SystemInfo.getProcessInfo")) as { processInfo: { cpuTime: number }[] };
      const now = processInfo.reduce((sum, one) => sum + one.cpuTime, 0);
      times = now - before < 0.02 ? times + 1 : 0;
      before = now;
      return times >= 3;
    });
  }

  private async until<T>(look: () => Promise<T | false>): Promise<T> {
    for (const late = Date.now() + within; ; ) {
      const found = await look();
      if (found !== false) return found;
      if (Date.now() > late) throw new Error(`not within ${within} ms`);
      await pause(often);
    }
  }

  private ask(method: string, params: Answer = {}, sessionId?: unknown): Promise<Answer> {
    const id = ++this.asked;
    const answer = new Promise<Answer>((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    (this.browser.stdio[3] as Writable).write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return answer;
  }

  private hear(text: string): void {
    const messages = (this.heard + text).split("\0");
    this.heard = messages.pop() ?? "";
    for (const message of messages) {
      const { id, result, error } = JSON.parse(message) as { id?: number; result?: Answer; error?: { message: string } };
      const asked = id === undefined ? undefined : this.waiting.get(id);
      if (id === undefined || !asked) continue;
      this.waiting.delete(id);
      if (error) asked.reject(new Error(error.message));
      else asked.resolve(result ?? {});
    }
  }
}
