// A few choices that outlive the page. A browser may forbid storage; then they last as long as the page.

const kept = new Map<string, string>();

/** remembered is what was chosen under this name, if anything. */
export function remembered(name: "locale" | "theme"): string | undefined {
  try {
    return localStorage.getItem(`free2talk.app.${name}`) ?? undefined;
  } catch {
    return kept.get(name);
  }
}

/** remember keeps a choice; undefined forgets it. */
export function remember(name: "locale" | "theme", value: string | undefined): void {
  try {
    if (value === undefined) localStorage.removeItem(`free2talk.app.${name}`);
    else localStorage.setItem(`free2talk.app.${name}`, value);
  } catch {
    if (value === undefined) kept.delete(name);
    else kept.set(name, value);
  }
}
