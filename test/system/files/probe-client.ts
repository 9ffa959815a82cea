/**
 * `node probe-client.ts HOST PORT`: reads the probe's numbers over one connection for as long as it lasts. At each line on
 * standard input it tells, as a line of JSON, how far they have come, and all that was not as it must be.
 */
import { connect } from "node:net";
import { createInterface } from "node:readline";

const [host, port] = process.argv.slice(2) as [string, string];
const wrong: string[] = [];
let last = 0n;
let rest = Buffer.alloc(0);

const note = (text: string) => {
  if (wrong.length < 20) wrong.push(text);
};

function take(value: bigint): void {
  if (value >> 63n !== 0n) {
    const where = (value >> 56n) & 0x7fn;
    note(`place ${where} had ${value & 0xffffffffffffffn} after ${last}`);
  } else {
    if (value !== last + 1n) note(`${value} after ${last}`);
    last = value;
  }
}

const socket = connect(Number(port), host);
socket.on("data", (chunk) => {
  rest = Buffer.concat([rest, chunk]);
  let at = 0;
  for (; at + 8 <= rest.length; at += 8) take(rest.readBigUInt64LE(at));
  rest = rest.subarray(at);
});
socket.on("error", (error) => note(error.message));
socket.on("close", () => note("the connection ended"));
createInterface({ input: process.stdin }).on("line", () =>
  process.stdout.write(`${JSON.stringify({ last: Number(last), wrong })}\n`),
);
