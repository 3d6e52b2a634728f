import { afterAll, beforeAll, test } from "vitest";
import { writeFileSync } from "node:fs";
import { Bare, Server } from "./harness/index.js";
let server: Server;
beforeAll(async () => { server = await Server.start();
  const { accessToken } = await server.register("ada");
  await server.call("RoomService/CreateRoom", { name: "Tapas y charla", languages: ["es"], capacity: 4 }, accessToken); });
afterAll(async () => { await server?.dispose(); });
function watch(): void {
  const ends: [number, number][] = [];
  new PerformanceObserver((list) => { for (const t of list.getEntries()) ends.push([Math.round(t.startTime), Math.round(t.duration)]); }).observe({ type: "longtask", buffered: true });
    setTimeout(() => {
      const n = performance.getEntriesByType("navigation")[0] as PerformanceNavigationTiming;
      const rooms = performance.getEntriesByName("rooms")[0]?.startTime ?? NaN, fcp = performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? NaN;
      const r = (performance.getEntriesByType("resource") as PerformanceResourceTiming[]).map((e) => e.name.replace(/.*\//, "").slice(0, 14) + " " + [e.startTime, e.responseEnd].map(Math.round).join("-"));
      document.title = `interactive ${Math.round(Math.max(rooms, fcp, n.domContentLoadedEventEnd, ...ends.map(([a, b]) => a + b)))} rooms ${Math.round(rooms)} fcp ${Math.round(fcp)} domInt ${Math.round(n.domInteractive)} dcl ${Math.round(n.domContentLoadedEventEnd)} | tasks ${ends.map((e) => e.join("+")).join(" ")} | ${r.join("; ")}`;
    }, 3000);
}
test("visits", async () => {
  const bare = await Bare.start() as any;
  const events: any[] = []; let done: any; const hear = bare.hear.bind(bare); let rest = "";
  bare.hear = (text: string) => { const parts = (rest + text).split("\0"); rest = parts.pop()!; for (const m of parts) { const o = JSON.parse(m); if (o.method === "Tracing.dataCollected") events.push(...o.params.value); if (o.method === "Tracing.tracingComplete") done(); } hear(text); };
  try {
    for (let n = 0; n < Number(process.env.N ?? 6); n++) console.log(await bare.visit(server.url, 4, `(${watch.toString()})()`, "interactive "));
    if (process.env.TRACE) {
      await bare.ask("Tracing.start", { transferMode: "ReportEvents", traceConfig: { includedCategories: process.env.TRACE.split(",") } });
      console.log(await bare.visit(server.url, 4, `(${watch.toString()})()`, "interactive "));
      const ended = new Promise((r) => (done = r)); await bare.ask("Tracing.end"); await ended;
      writeFileSync("/tmp/trace.json", JSON.stringify(events)); }
  } finally { await bare.close(); }
}, 300_000);
