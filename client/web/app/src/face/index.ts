// The face of headings and greetings. Nobody waits for it: it comes when everything else has, and of its two files only
// what the words on the page are written with. See scripts/face.js.

import common from "./bricolage-common.woff2?url";
import rare from "./bricolage-rare.woff2?url";
import characters from "./characters.json";

/** dress has headings written in their face. */
export function dress(): void {
  for (const [url, unicodeRange] of [
    [common, characters.common],
    [rare, characters.rare],
  ]) {
    document.fonts.add(new FontFace("Bricolage Grotesque", `url("${url}")`, { weight: "700", display: "swap", unicodeRange }));
  }
}
