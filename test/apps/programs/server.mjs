// A Node.js server with its state in memory: HTTP on one port, WebSockets (RFC 6455) on the same one.
import { createHash } from "node:crypto";
import { createServer } from "node:http";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const TICK_MS = 20;
const counts = new Map();

function add(name) {
  const count = (counts.get(name) ?? 0) + 1;
  counts.set(name, count);
  return count;
}

const server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
  request.resume().on("end", () => {
    const [, verb, name] = request.url.split("/");
    if (verb !== "add") return response.writeHead(404).end("nothing");
    // Through the thread pool and a timer, as real ones do their work.
    setTimeout(() => response.end(String(add(name))), Math.random() * 5);
  });
});

/** A text frame of a server: not masked. */
function frame(text) {
  const body = Buffer.from(text);
  return Buffer.concat([Buffer.from([0x81, body.length]), body]);
}

server.on("upgrade", (request, socket) => {
  const accept = createHash("sha1")
    .update(request.headers["sec-websocket-key"] + GUID)
    .digest("base64");
  socket.setNoDelay(true);
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  let tick = 0;
  const ticker = setInterval(() => socket.write(frame(`tick ${tick++}`)), TICK_MS);
  socket.on("close", () => clearInterval(ticker)).on("error", () => {});
  let have = Buffer.alloc(0);
  socket.on("data", (bytes) => {
    have = Buffer.concat([have, bytes]);
    // Frames of a client: short ones, masked.
    while (have.length >= 6 && have.length >= 6 + (have[1] & 0x7f)) {
      const length = have[1] & 0x7f;
      const mask = have.subarray(2, 6);
      const text = Buffer.from(have.subarray(6, 6 + length).map((byte, i) => byte ^ mask[i & 3])).toString();
      if ((have[0] & 0xf) === 8) return socket.end();
      have = have.subarray(6 + length);
      socket.write(frame(`${text} ${add(text)}`));
    }
  });
});

server.listen(8080, "0.0.0.0");
