import "./face/face.css";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/parts.css";
import { mount } from "svelte";
import App from "./App.svelte";
import { i18n } from "./i18n/index.svelte";
import { app } from "./state/app.svelte";
import { themes } from "./state/theme.svelte";

themes.start();
app.start();

// A page in the wrong language for a moment, and from right to left, is worse than one a moment later; and where the
// messages cannot be fetched, English is better than nothing. (They are not awaited here: what is fetched imports parts
// of this very script, and would wait for its end.)
void Promise.all([app.report(i18n.start()), app.rooms]).then(() => {
  const target = document.getElementById("app");
  if (!target) throw new Error("the page has no place for the app");
  target.replaceChildren();
  mount(App, { target });
  app.draw();
});
