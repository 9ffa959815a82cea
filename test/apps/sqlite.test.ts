/** SQLite under random transactions: what was acknowledged is in the database after each power failure, and it is whole. */
import { randomInt } from "node:crypto";
import { test } from "node:test";
import { type Hardship, SHORT, servesThrough } from "./support.ts";

const SERVER = new URL("programs/ledger.py", import.meta.url).pathname;
const POWER_OFFS = SHORT ? 2 : 20;
const ROUNDS: Hardship[] = ["switch", ...Array<Hardship>(POWER_OFFS).fill("power-off")];
const LIMIT_MS = 300_000 + POWER_OFFS * 30_000;

/** With a rollback journal SQLite writes no database that has another inode number than when it was opened (README). */
const MODE = "wal";
const seed = String(randomInt(2 ** 31));
test(`SQLite, journal mode ${MODE}, through ${POWER_OFFS} power failures (seed ${seed})`, { timeout: LIMIT_MS }, (t) =>
  servesThrough(
    t,
    "sqlite",
    { command: ["/usr/bin/python3", SERVER, MODE, seed] },
    [{ kind: "ledger", port: 7000, connections: 4 }],
    ROUNDS,
  ),
);
