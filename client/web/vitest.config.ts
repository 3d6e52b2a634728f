// The unit tests of the library, on a router in memory, and of the app, as a server would write it: no server, no browser.
import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  plugins: [svelte()],
  resolve: {
    alias: [
      { find: /^@free2talk\/client\/gen\/(.*)$/, replacement: here("src/gen/$1.ts") },
      { find: "@free2talk/client", replacement: here("src/index.ts") },
    ],
  },
  test: { include: ["test/**/*.test.ts", "app/src/**/*.test.ts"], environment: "node", testTimeout: 10_000 },
});
