// The flows, in a real browser against a real server: see e2e/harness.
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  resolve: { alias: { "@free2talk/client": here("src/index.ts") } },
  test: {
    include: ["e2e/**/*.test.ts"],
    environment: "node",
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Two cores, and each file has a browser and a server.
    fileParallelism: false,
  },
});
