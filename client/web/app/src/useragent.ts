// What a device calls itself, in two words. Good enough to know one's own devices by; a device may say what it likes.

// The order matters: Edge says that it is Chrome too, and Chrome that it is Safari.
const browsers: [RegExp, string][] = [
  [/\bEdg(e|A|iOS)?\//, "Edge"],
  [/\bOPR\//, "Opera"],
  [/\b(Firefox|FxiOS)\//, "Firefox"],
  [/\bSamsungBrowser\//, "Samsung Internet"],
  [/\b(Headless)?(Chrome|CriOS|Chromium)\//, "Chrome"],
  [/\bSafari\//, "Safari"],
  [/\bcurl\//, "curl"],
  [/connect-go/, "Go"],
];

const systems: [RegExp, string][] = [
  [/\biPhone\b/, "iPhone"],
  [/\biPad\b/, "iPad"],
  [/\bAndroid\b/, "Android"],
  [/\bWindows\b/, "Windows"],
  [/\bMac OS X\b|\bMacintosh\b/, "macOS"],
  [/\bCrOS\b/, "ChromeOS"],
  [/\bLinux\b/, "Linux"],
];

const first = (list: [RegExp, string][], text: string) => list.find(([pattern]) => pattern.test(text))?.[1];

/** deviceOf reads a User-Agent. What it does not recognise it leaves out. */
export function deviceOf(agent: string): { browser?: string | undefined; system?: string | undefined; phone: boolean } {
  return { browser: first(browsers, agent), system: first(systems, agent), phone: /\b(iPhone|Mobile|Android)\b/.test(agent) };
}
