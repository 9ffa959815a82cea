import { test } from "node:test";
import { servesThrough } from "./support.ts";

const WORKERS = new URL("programs/workers.py", import.meta.url).pathname;

test("Forked workers over shared memory: one lock, one sum", { timeout: 400_000 }, (context) =>
  servesThrough(context, "shared", { command: ["/usr/bin/python3", WORKERS] }, [
    { kind: "lines", port: 7000, connections: 24 },
  ]),
);
