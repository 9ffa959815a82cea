/** Sends a known pattern, expects each byte back, xor 0x5a. Prints one JSON line: bytes checked, longest silence in ms. */
import { connect } from "node:net";

const [host = "", port = "", total = "", chunk = "65536", window = "3000000"] = process.argv.slice(2);
const limit = Number(total);
const period = 65536 * 3 + 7;
const pattern = Buffer.from(Array.from({ length: period }, (_, i) => ((i * 2654435761) >>> 13) & 255));
const expected = Buffer.from(pattern.map((byte) => byte ^ 0x5a));

let sent = 0;
let received = 0;
let longest = 0;
let last = performance.now();
const socket = connect(Number(port), host);
socket.setNoDelay(true);

function slice(source: Buffer, at: number, length: number): Buffer {
  const start = at % period;
  return start + length <= period
    ? source.subarray(start, start + length)
    : Buffer.concat([source.subarray(start), source.subarray(0, start + length - period)]);
}

function pump(): void {
  while (sent < limit && sent - received < Number(window) && socket.writableLength < 1 << 20) {
    const length = Math.min(Number(chunk), limit - sent);
    socket.write(slice(pattern, sent, length));
    sent += length;
  }
}

socket.on("connect", pump);
socket.on("drain", pump);
socket.on("data", (data) => {
  for (let at = 0; at < data.length; ) {
    const length = Math.min(data.length - at, period);
    if (!slice(expected, received, length).equals(data.subarray(at, at + length))) {
      console.log(JSON.stringify({ error: `wrong byte near ${received}` }));
      process.exit(1);
    }
    received += length;
    at += length;
  }
  const now = performance.now();
  longest = Math.max(longest, now - last);
  last = now;
  if (received === limit) {
    console.log(JSON.stringify({ received, longestMs: Math.round(longest * 10) / 10 }));
    socket.end();
  } else pump();
});
for (const event of ["error", "end"] as const) {
  socket.on(event, (error?: Error) => {
    if (received === limit) return;
    console.log(JSON.stringify({ error: `${event} at ${received}: ${error?.message ?? ""}` }));
    process.exit(1);
  });
}
