// Where the person is, by the address. Links are plain <a href>; clicks on them are caught once, at the document.

import { untrack } from "svelte";

/** Route is a page and what the address says of it. */
export type Route =
  | { page: "lobby" }
  | { page: "room"; slug: string }
  | { page: "login" }
  | { page: "register" }
  | { page: "people" }
  | { page: "person"; username: string }
  | { page: "settings"; section: "profile" | "security" }
  | { page: "admin"; section: AdminSection }
  | { page: "missing" };

/** AdminSection is a tab of the administrator's page. */
export type AdminSection = "overview" | "rooms" | "people" | "audit";

const adminSections: readonly string[] = ["overview", "rooms", "people", "audit"] satisfies AdminSection[];

/** match says which page a path is. */
export function match(path: string): Route {
  const [first = "", second = "", ...rest] = path.replace(/^\/+|\/+$/g, "").split("/").map(decode);
  if (rest.length > 0) return { page: "missing" };
  switch (first) {
    case "":
      return { page: "lobby" };
    case "login":
    case "register":
      return second ? { page: "missing" } : { page: first };
    case "rooms":
      return second ? { page: "room", slug: second } : { page: "lobby" };
    case "people":
      return second ? { page: "person", username: second } : { page: "people" };
    case "settings":
      if (second === "" || second === "security") {
        return { page: "settings", section: second || "profile" };
      }
      return { page: "missing" };
    case "admin":
      return adminSections.includes(second || "overview")
        ? { page: "admin", section: (second || "overview") as AdminSection }
        : { page: "missing" };
  }
  return { page: "missing" };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

class Router {
  path = $state(location.pathname);
  query = $state.raw(new URLSearchParams(location.search));
  route: Route = $derived(match(this.path));
  /** Whether this is still the page that was loaded. */
  first = true;

  /** start follows the links and the browser's buttons. It returns how to stop. */
  start(): () => void {
    const back = () => this.read();
    const click = (event: MouseEvent) => this.follow(event);
    addEventListener("popstate", back);
    document.addEventListener("click", click);
    return () => {
      removeEventListener("popstate", back);
      document.removeEventListener("click", click);
    };
  }

  /** go opens an address of the app. */
  go(href: string, { replace = false } = {}): void {
    const url = new URL(href, location.href);
    const samePage = url.pathname === this.path;
    history[replace ? "replaceState" : "pushState"]({}, "", url);
    this.read();
    if (!samePage) scrollTo(0, 0);
  }

  /** refine changes the query of the page, without a new entry in the history. */
  refine(query: URLSearchParams): void {
    const text = query.toString();
    if (text === untrack(() => this.query).toString()) return;
    history.replaceState({}, "", text ? `?${text}` : location.pathname);
    this.query = query;
  }

  private read(): void {
    this.first = false;
    this.path = location.pathname;
    this.query = new URLSearchParams(location.search);
  }

  private follow(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.hash && link.pathname === location.pathname) return;
    event.preventDefault();
    this.go(link.href);
  }
}

/** router is where the person is. */
export const router = new Router();

/** loginPath is where to log in and come back from. */
export function loginPath(back = location.pathname + location.search): string {
  return back === "/" ? "/login" : `/login?to=${encodeURIComponent(back)}`;
}

/** comeBack is where to go after the log-in: a path of this app, never another site's. */
export function comeBack(query: URLSearchParams): string {
  const to = query.get("to") ?? "/";
  return new URL(to, location.origin).origin === location.origin && to.startsWith("/") && !to.startsWith("//") ? to : "/";
}
