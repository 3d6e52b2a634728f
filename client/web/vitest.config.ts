// The unit tests of the library, on a router in memory: no server, no browser.
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  resolve: { alias: { "@free2talk/client": here("src/index.ts") } },
  test: { include: ["test/**/*.test.ts", "app/src/**/*.test.ts"], environment: "node", testTimeout: 10_000 },
});
