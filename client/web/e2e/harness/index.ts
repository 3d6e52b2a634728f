export { Bare } from "./bare.js";
export { artifacts, launch, Person, person, screenshot } from "./browser.js";
export { Proxy } from "./proxy.js";
export { freePort, passwordOf, Server, type ServerOptions, shared } from "./server.js";
export { Site } from "./site.js";
