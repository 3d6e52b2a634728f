// A browser of one's own: Debian's Chromium, without a window, with an empty profile.

import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from "playwright-core";

/** CHROMIUM names the program where it is not Debian's. */
export const program = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** flags make a browser quiet, and run as root. */
export const flags = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Where screenshots are kept, as artefacts of the run. */
export const artifacts = fileURLToPath(new URL("../../artifacts/", import.meta.url));

/** launch opens a browser with an empty profile. */
export function launch(more: string[] = []): Promise<Browser> {
  return chromium.launch({ executablePath: program, headless: true, args: [...flags, ...more] });
}

/** person is a context of the browser, with cookies of its own, whose pages fail the test where a script does. */
export async function person(browser: Browser, options: BrowserContextOptions = {}): Promise<Person> {
  const context = await browser.newContext({ locale: "en-GB", ...options });
  context.setDefaultTimeout(20_000);
  return new Person(context);
}

/** Person is somebody with a browser. */
export class Person {
  /** What went wrong in their pages: exceptions, and what the console calls errors. */
  readonly complaints: string[] = [];

  constructor(readonly context: BrowserContext) {
    context.on("weberror", (e) => this.complaints.push(String(e.error())));
    context.on("console", (m) => {
      // That a request failed is the page's business, and told by it.
      if (m.type() === "error" && !m.text().startsWith("Failed to load resource")) this.complaints.push(m.text());
    });
  }

  /** open opens a page in another tab. */
  async open(url: string): Promise<Page> {
    const page = await this.context.newPage();
    await page.goto(url);
    return page;
  }

  close(): Promise<void> {
    return this.context.close();
  }
}

/** screenshot keeps a picture of a page. */
export async function screenshot(page: Page, name: string): Promise<void> {
  await mkdir(artifacts, { recursive: true });
  await page.screenshot({ path: `${artifacts}${name}.png`, fullPage: true, animations: "disabled" });
}
