// The app, built from app/ into dist/, which is committed and embedded in the
// server. The same sources give the same bytes: names come from the contents.
import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";
import { schemas } from "./build/schemas.js";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** What a server at hand answers in place of vite's, while the app is written. */
const server = process.env.FREE2TALK_URL ?? "http://127.0.0.1:8080";

/** What the first page needs, by module: all of it comes as one file, since each file costs a request and its headers. */
const first = new Set<string>();

/** together finds what the first page needs: what the entry imports, and what that imports. */
const together: Plugin = {
  name: "together",
  buildEnd() {
    const walk = (id: string) => {
      if (first.has(id)) return;
      first.add(id);
      for (const next of this.getModuleInfo(id)?.importedIds ?? []) walk(next);
    };
    for (const id of this.getModuleIds()) if (this.getModuleInfo(id)?.isEntry) walk(id);
  },
};

/**
 * eager has the browser compile the first script whole and aside, while it comes, in place of function by function when
 * each is first called. See https://v8.dev/blog/explicit-compile-hints.
 */
const eager: Plugin = {
  name: "eager",
  generateBundle: {
    order: "post",
    handler(_, bundle) {
      for (const chunk of Object.values(bundle)) {
        if (chunk.type === "chunk" && chunk.isEntry) chunk.code = `//# allFunctionsCalledOnLoad\n${chunk.code}`;
      }
    },
  },
};

export default defineConfig({
  root: here("app"),
  plugins: [svelte(), schemas, together, eager],
  resolve: {
    alias: [
      { find: /^@free2talk\/client\/gen\/(.*)$/, replacement: here("src/gen/$1.ts") },
      { find: "@free2talk/client", replacement: here("src/index.ts") },
    ],
  },
  build: {
    outDir: here("dist"),
    emptyOutDir: true,
    target: "es2022",
    // The server's policy of contents allows no data: addresses.
    assetsInlineLimit: 0,
    // Every browser that the target asks for but old ones of two makers knows modulepreload; there a page is a moment later.
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: { output: { codeSplitting: { groups: [{ name: "index", test: (id) => first.has(id) }] } } },
  },
  server: {
    host: "127.0.0.1",
    proxy: { "^/(free2talk\\.|\\.well-known/)": { target: server } },
  },
});
