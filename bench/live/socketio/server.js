// Serves one room by socket.io over websockets. What is posted to /publish is
// emitted n times to everybody in it.
import { createServer } from "node:http";
import { Server } from "socket.io";

const [host, port] = process.argv[process.argv.indexOf("--listen") + 1].split(":");

const server = createServer((request, response) => {
  if (request.method !== "POST" || !request.url.startsWith("/publish?n=")) {
    response.end();
    return;
  }
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const event = JSON.parse(Buffer.concat(parts));
    for (let n = Number(request.url.split("=")[1]); n > 0; n--) io.to("room").emit("event", event);
    response.end();
  });
});
const io = new Server(server, { transports: ["websocket"], pingInterval: 3_600_000, serveClient: false });
io.on("connection", (socket) => socket.join("room"));
server.listen(Number(port), host);
