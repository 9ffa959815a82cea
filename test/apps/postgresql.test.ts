/** PostgreSQL under pgbench: every acknowledged transaction is there afterwards, and all indexes fit their tables. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ProtectedApplication } from "../../workload/application.ts";
import { eventually } from "../support/eventually.ts";
import { PgBench } from "./pgbench.ts";
import { endure, type Hardship, HOST, SHORT, stage, tellWhatHappened } from "./support.ts";

const START = new URL("programs/postgresql.sh", import.meta.url).pathname;
const SCRIPT = new URL("programs/transfer.sql", import.meta.url).pathname;
const BIN = "/usr/lib/postgresql/15/bin";
const SERVER = ["--host", HOST, "--username", "postgres"];
const CLIENTS = 8;
const POWER_OFFS = SHORT ? 2 : 20;
const ROUNDS: Hardship[] = ["switch", ...Array<Hardship>(POWER_OFFS).fill("power-off")];
const LIMIT_MS = 300_000 + POWER_OFFS * 30_000;

async function ask(application: ProtectedApplication, argv: string[]): Promise<string> {
  const { code, stdout, stderr } = await application.lab.client(argv);
  assert.equal(code, 0, `${argv.join(" ")}: ${stderr}${stdout}`);
  return stdout.trim();
}

const sql = (application: ProtectedApplication, text: string) =>
  ask(application, [`${BIN}/psql`, ...SERVER, "--no-psqlrc", "--tuples-only", "--no-align", "--command", text]);

test(`PostgreSQL through ${POWER_OFFS} power failures under pgbench`, { timeout: LIMIT_MS }, async (context) => {
  await using application = await stage("postgresql", { command: ["sh", START] });
  try {
    await eventually("PostgreSQL is ready", () => sql(application, "SELECT 1"));
    await ask(application, [`${BIN}/pgbench`, ...SERVER, "--initialize", "--scale", "2", "--quiet", "postgres"]);
    await sql(application, "CREATE TABLE acknowledged (client int, n int, PRIMARY KEY (client, n))");
    using bench = await PgBench.start(application.lab, SERVER, CLIENTS, SCRIPT);
    await endure(application, ROUNDS, () => bench.goOn());
    const acknowledged = await bench.stop();

    const total = [...acknowledged.values()].reduce((sum, count) => sum + count, 0);
    context.diagnostic(`${total} transactions, ${CLIENTS} connections`);
    assert.equal(acknowledged.size, CLIENTS);
    const rows = await sql(
      application,
      "SELECT client, count(*), min(n), max(n) FROM acknowledged GROUP BY 1 ORDER BY 1",
    );
    const wanted = [...acknowledged].sort(([a], [b]) => a - b).map(([client, n]) => `${client}|${n}|1|${n}`);
    assert.deepEqual(rows.split("\n"), wanted);
    const sums = await sql(
      application,
      `SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches),
              (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(delta) FROM pgbench_history),
              (SELECT count(*) FROM pgbench_history)`,
    );
    const [accounts, branches, tellers, history, count] = sums.split("|");
    assert.deepEqual([accounts, branches, tellers, count], [history, history, history, String(total)]);
    const thorough = ["--install-missing", "--heapallindexed", "--parent-check", "--rootdescend"];
    assert.equal(await ask(application, [`${BIN}/pg_amcheck`, ...SERVER, ...thorough, "postgres"]), "");
  } catch (error) {
    await tellWhatHappened(context, application);
    throw error;
  }
});
