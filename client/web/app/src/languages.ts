// The languages to choose from, each with its greeting: what a room's card says in large letters, and the hue that
// makes a language known at a glance. Tags that are not among them are shown by their own names.

import type { Messages } from "./i18n/en";
import { i18n } from "./i18n/index.svelte";

type Named = keyof Messages["languages"];

const greetings: Record<Named, [greeting: string, hue: number]> = {
  en: ["Hello", 38],
  es: ["Hola", 60],
  fr: ["Salut", 262],
  de: ["Hallo", 90],
  it: ["Ciao", 150],
  pt: ["Olá", 165],
  ar: ["مرحبًا", 175],
  zh: ["你好", 22],
  ja: ["こんにちは", 350],
  ko: ["안녕", 280],
  ru: ["Привет", 245],
  hi: ["नमस्ते", 52],
  tr: ["Merhaba", 195],
  nl: ["Hoi", 45],
  pl: ["Cześć", 5],
  uk: ["Привіт", 100],
  vi: ["Xin chào", 75],
  th: ["สวัสดี", 310],
  id: ["Halo", 15],
  sv: ["Hej", 230],
  nb: ["Hei", 250],
  da: ["Hej", 12],
  fi: ["Moi", 222],
  cs: ["Ahoj", 208],
  sk: ["Ahoj", 218],
  hu: ["Szia", 142],
  ro: ["Salut", 80],
  bg: ["Здравей", 130],
  el: ["Γεια", 235],
  he: ["שלום", 215],
  fa: ["سلام", 160],
  ur: ["سلام", 145],
  bn: ["নমস্কার", 155],
  ta: ["வணக்கம்", 330],
  te: ["నమస్తే", 320],
  ml: ["നമസ്കാരം", 120],
  ms: ["Helo", 110],
  tl: ["Kumusta", 200],
  sw: ["Habari", 135],
  am: ["ሰላም", 95],
  ca: ["Hola", 50],
  eu: ["Kaixo", 28],
  gl: ["Ola", 205],
  ga: ["Haigh", 148],
  cy: ["Helô", 8],
  is: ["Hæ", 240],
  et: ["Tere", 225],
  lv: ["Sveiki", 18],
  lt: ["Labas", 85],
  sl: ["Živjo", 170],
  hr: ["Bok", 255],
  sr: ["Ćao", 355],
  sq: ["Tung", 0],
  hy: ["Բարև", 65],
  ka: ["გამარჯობა", 345],
  kk: ["Сәлем", 190],
  uz: ["Salom", 185],
  az: ["Salam", 180],
  mn: ["Сайн уу", 270],
  eo: ["Saluton", 140],
  la: ["Salve", 300],
  yue: ["你好", 340],
  af: ["Hallo", 125],
};

const base = (tag: string) => tag.split("-")[0] ?? tag;

const isNamed = (tag: string): tag is Named => Object.hasOwn(greetings, tag);

const known = (tag: string) => {
  const language = base(tag);
  return isNamed(language) ? greetings[language] : undefined;
};

/** languageTags are the languages that a person may choose, as their tags. */
export const languageTags: readonly string[] = Object.keys(greetings);

const namers = new Map<string, Intl.DisplayNames>();

function name(tag: string, locale: string): string {
  let namer = namers.get(locale);
  if (!namer) {
    namer = new Intl.DisplayNames(locale, { type: "language", fallback: "code" });
    namers.set(locale, namer);
  }
  try {
    return namer.of(tag) ?? tag;
  } catch {
    return tag;
  }
}

/** languageName is what a language is called in the language of the app, with a capital where there are such. */
export function languageName(tag: string): string {
  if (isNamed(tag)) return i18n.t.languages[tag];
  const text = name(tag, i18n.locale);
  return text.charAt(0).toLocaleUpperCase(i18n.locale) + text.slice(1);
}

/** greeting is hello in a language, or else the language's own name. */
export function greeting(tag: string): string {
  return known(tag)?.[0] ?? name(tag, tag);
}

/** languageHue is the colour of a language, 0 to 359. */
export function languageHue(tag: string): number {
  return known(tag)?.[1] ?? hueOf(base(tag));
}

/** hueOf gives any text a colour of its own, 0 to 359; always the same. */
export function hueOf(text: string): number {
  let hash = 2166136261;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 16777619);
  return (hash >>> 0) % 360;
}

/** matchesLanguage is the server's rule: es finds es-mx too. */
export function matchesLanguage(tags: readonly string[], wanted: string): boolean {
  return tags.some((tag) => tag === wanted || tag.startsWith(`${wanted}-`));
}
