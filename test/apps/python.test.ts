import { test } from "node:test";
import { servesThrough } from "./support.ts";

const SERVER = new URL("programs/server.py", import.meta.url).pathname;

test("A Python asyncio server: counts in memory, threads beside the loop", { timeout: 400_000 }, (context) =>
  servesThrough(context, "python", { command: ["/usr/bin/python3", SERVER] }, [
    { kind: "lines", port: 7000, connections: 20 },
  ]),
);
