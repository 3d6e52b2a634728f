// Prints what the library costs a page, minified and compressed, and fails where that has grown beyond its bounds.
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "vite";

const library = fileURLToPath(new URL("../src/index.ts", import.meta.url));

/** What a page may import, and the most that it may cost, in bytes of gzip. */
const uses = [
  { name: "createFree2Talk", code: "export { createFree2Talk }", most: 46_000 },
  { name: "everything", code: "export *", most: 47_000 },
  { name: "reasonOf, retryAfter, violations", code: "export { reasonOf, retryAfter, violations }", most: 9_000 },
];

/** @param {string} code */
async function bundle(code) {
  const entry = "\0use";
  const result = await build({
    configFile: false,
    logLevel: "error",
    plugins: [
      {
        name: "use",
        resolveId: (id) => (id === "use" ? entry : undefined),
        load: (id) => (id === entry ? `${code} from ${JSON.stringify(library)};` : undefined),
      },
    ],
    build: {
      write: false,
      minify: true,
      target: "es2022",
      rollupOptions: { input: "use", preserveEntrySignatures: "strict", output: { format: "es" } },
    },
  });
  const outputs = [result].flat().flatMap((r) => ("output" in r ? r.output : []));
  return outputs.map((o) => ("code" in o ? o.code : "")).join("");
}

let over = false;
for (const { name, code, most } of uses) {
  const minified = Buffer.from(await bundle(code));
  const compressed = gzipSync(minified, { level: 9 }).length;
  over ||= compressed > most;
  const kb = (/** @type {number} */ n) => `${(n / 1000).toFixed(1)} kB`.padStart(9);
  console.log(`${kb(minified.length)} minified ${kb(compressed)} gzip, of ${kb(most)}  ${name}`);
}
process.exitCode = over ? 1 : 0;
