// Which language the app speaks. English comes with it; the others are fetched when they are wanted.

import { en, type Messages } from "./en";
import { remember, remembered } from "../state/storage";

/** Locale is a language that the app speaks. */
export type Locale = "en" | "es" | "ar";

/** locales are the languages to choose from, by their own names. */
export const locales: Record<Locale, string> = { en: "English", es: "Español", ar: "العربية" };

const load: Record<Locale, () => Promise<Messages>> = {
  en: async () => en,
  es: async () => (await import("./es")).es,
  ar: async () => (await import("./ar")).ar,
};

const isLocale = (tag: string | undefined): tag is Locale => tag !== undefined && tag in locales;

/** preferred is the language chosen before, or else the first of the browser's that the app speaks. */
function preferred(): Locale {
  const chosen = remembered("locale");
  if (isLocale(chosen)) return chosen;
  return navigator.languages.map((tag) => tag.split("-")[0]).find(isLocale) ?? "en";
}

class I18n {
  /** What is spoken now. */
  locale = $state<Locale>("en");
  /** The messages in it. */
  t = $state.raw<Messages>(en);

  /** start speaks the preferred language; it resolves when the messages are there. */
  async start(): Promise<void> {
    await this.speak(preferred());
  }

  /** choose speaks a language from now on. */
  async choose(locale: Locale): Promise<void> {
    remember("locale", locale);
    await this.speak(locale);
  }

  private async speak(locale: Locale): Promise<void> {
    const messages = await load[locale]();
    this.t = messages;
    this.locale = locale;
    document.documentElement.lang = locale;
    document.documentElement.dir = locale === "ar" ? "rtl" : "ltr";
  }
}

/** i18n is the app's language. Read `i18n.t` in a template, and it follows the choice. */
export const i18n = new I18n();
