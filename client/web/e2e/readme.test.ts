import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { expect, test } from "vitest";
import { launch, person, Server, Site } from "./harness/index.js";

test("the README's first example runs as it stands there", async () => {
  const readme = await readFile(fileURLToPath(new URL("../README.md", import.meta.url)), "utf8");
  const example = /```ts\n([\s\S]*?)```/.exec(readme)?.[1] ?? "";
  const site = await Site.open();
  const server = await Server.start({ flags: ["--allowed-origins", site.url] });
  const browser = await launch();
  try {
    // What a bundler does: the import becomes the script that the page has, the types go.
    const code = example
      .replace(/^import \{ (\w+) \} from "@free2talk\/client";/, "const { $1 } = free2talk;")
      .replace("http://127.0.0.1:8080", server.url);
    const { outputText } = ts.transpileModule(code, { compilerOptions: { target: ts.ScriptTarget.ES2022 } });
    const reader = await person(browser);
    const page = await reader.open(site.url);
    const said: string[] = [];
    page.on("console", (message) => said.push(message.text()));
    await page.evaluate(`(async () => { ${outputText} })()`);
    expect(said).toEqual(["ada: ¡Hola!"]);
    expect(reader.complaints).toEqual([]);
  } finally {
    await browser.close();
    await server.dispose();
    site.close();
  }
});
