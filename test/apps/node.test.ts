import { test } from "node:test";
import { servesThrough } from "./support.ts";

const SERVER = new URL("programs/server.mjs", import.meta.url).pathname;

test("A Node.js server: HTTP and WebSockets, counts in memory", { timeout: 400_000 }, (context) =>
  servesThrough(context, "nodejs", { command: [process.execPath, SERVER] }, [
    { kind: "counting", port: 8080, connections: 10 },
    { kind: "websocket", port: 8080, connections: 10 },
  ]),
);
