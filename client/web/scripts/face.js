// Writes the face of the headings, in two files: what English and Spanish are written with, which every visit loads,
// and the rest of what the face has, which a page loads where somebody's words need it. Run it (`npm run face`) when the
// face or the characters change, and commit what it writes: the files, and the style that names them.
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import subsetFont from "subset-font";

const whole = createRequire(import.meta.url).resolve(
  "@fontsource/bricolage-grotesque/files/bricolage-grotesque-latin-700-normal.woff2",
);
const into = new URL("../app/src/face/", import.meta.url);
const font = await readFile(whole);
/** @type {Record<string, string>} */
const characters = JSON.parse(await readFile(new URL("characters.json", into), "utf8"));
let style = "/* Written by scripts/face.js. */\n";
for (const [name, ranges] of Object.entries(characters)) {
  let text = "";
  for (const range of ranges.split(/,\s*/)) {
    const [first = 0, last = first] = range.replace("U+", "").split("-").map((hex) => Number.parseInt(hex, 16));
    for (let code = first; code <= last; code++) text += String.fromCodePoint(code);
  }
  const part = await subsetFont(font, text, { targetFormat: "woff2", noLayoutClosure: true });
  await writeFile(new URL(`bricolage-${name}.woff2`, into), part);
  console.log(`${part.length} bytes: ${name}`);
  style += `
@font-face {
  font-family: "Bricolage Grotesque";
  font-weight: 700;
  font-display: swap;
  src: url("./bricolage-${name}.woff2") format("woff2");
  unicode-range: ${ranges};
}
`;
}
await writeFile(new URL("face.css", into), style);
