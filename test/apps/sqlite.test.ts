/**
 * SQLite under random transactions, on a connection that stays open: what was acknowledged is in the database after each power
 * failure, and it is whole.
 */
import { randomInt } from "node:crypto";
import { test } from "node:test";
import type { Program } from "../../workload/application.ts";
import { type Hardship, SHORT, servesThrough } from "./support.ts";

const SERVER = new URL("programs/ledger.py", import.meta.url).pathname;
const POWER_OFFS = SHORT ? 2 : 20;
const ROUNDS: Hardship[] = ["switch", ...Array<Hardship>(POWER_OFFS).fill("power-off"), "switch"];
const LIMIT_MS = 300_000 + POWER_OFFS * 30_000;

/** With a rollback journal, its default, it writes no database that has another inode number than when it was opened (README). */
const WAYS: Array<[mode: string, more: Pick<Program, "disk">]> = [
  ["wal", {}],
  ["delete", { disk: "256M" }],
];

for (const [mode, more] of WAYS) {
  const seed = String(randomInt(2 ** 31));
  const how = `journal mode ${mode}${more.disk === undefined ? "" : " on a disk of its own"}`;
  test(`SQLite, ${how}, through ${POWER_OFFS} power failures (seed ${seed})`, { timeout: LIMIT_MS }, (t) =>
    servesThrough(
      t,
      "sqlite",
      { command: ["/usr/bin/python3", SERVER, mode, seed], ...more },
      [{ kind: "ledger", port: 7000, connections: 4 }],
      ROUNDS,
    ),
  );
}
