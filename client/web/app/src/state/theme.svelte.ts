// Light, dark, or as the system has it. The colours themselves are in styles/tokens.css.

import { remember, remembered } from "./storage";

/** Theme is what the switch offers. */
export type Theme = "system" | "light" | "dark";

class Themes {
  current = $state<Theme>("system");

  /** start puts on what was chosen before. */
  start(): void {
    const chosen = remembered("theme");
    this.put(chosen === "light" || chosen === "dark" ? chosen : "system");
  }

  /** choose puts on a theme from now on. */
  choose(theme: Theme): void {
    remember("theme", theme === "system" ? undefined : theme);
    this.put(theme);
  }

  private put(theme: Theme): void {
    this.current = theme;
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }
}

/** themes is the app's look. */
export const themes = new Themes();
