import { expect, test } from "vitest";
import { launch, person, Server } from "./harness/index.js";

test("the harness opens the server's own page in a browser of its own", async () => {
  const server = await Server.start();
  const browser = await launch();
  try {
    const ada = await person(browser);
    const page = await ada.open(`${server.url}/readyz`);
    expect(await page.textContent("body")).toContain("ready");
    await server.restart("SIGKILL");
    await page.reload();
    expect(ada.complaints).toEqual([]);
  } finally {
    await browser.close();
    await server.dispose();
  }
});
