export { artifacts, launch, Person, person, screenshot } from "./browser.js";
export { freePort, passwordOf, Server, type ServerOptions } from "./server.js";
