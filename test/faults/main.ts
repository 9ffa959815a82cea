/** Faults in all phases of a protected application's life: see scripts/faults-test.ts for how to call it. */
import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { faultsPage, key, type Table, tableOf } from "./page.ts";
import { type Choice, FAULT_NAMES, PHASE_NAMES, pairs, planOf } from "./plan.ts";
import type { Outcome } from "./run.ts";
import { openFaultSite } from "./site.ts";

const PAGE = resolve(import.meta.dirname, "../../docs/faults.md");

const { values } = parseArgs({
  options: {
    count: { type: "string", default: "200" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    store: { type: "string", default: "etcd" },
    fault: { type: "string", multiple: true },
    phase: { type: "string", multiple: true },
    json: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    page: { type: "boolean", default: false },
    name: { type: "string", default: `faults${process.pid}` },
  },
});

const begun = performance.now();
const say = (text: string) =>
  process.stderr.write(`${((performance.now() - begun) / 1000).toFixed(1).padStart(6)} s  ${text}\n`);

function usage(message: string): never {
  process.stderr.write(`${message}\nFaults: ${FAULT_NAMES.join(", ")}\nPhases: ${PHASE_NAMES.join(", ")}\n`);
  process.exit(2);
}

function chosen(): { choice: Choice; seed: number; count: number } {
  const { store, fault: faults, phase: phases } = values;
  if (store !== "sqlite" && store !== "etcd") usage(`The store is "sqlite" or "etcd", not "${store}".`);
  const [seed, count] = [Number(values.seed), Number(values.count)];
  if (!(Number.isInteger(seed) && seed >= 0)) usage("Give --seed a whole number.");
  if (!(Number.isInteger(count) && count >= 1)) usage("Give --count a whole number, at least 1.");
  const unknown = [
    ...(faults ?? []).filter((name) => !(FAULT_NAMES as string[]).includes(name)),
    ...(phases ?? []).filter((name) => !(PHASE_NAMES as string[]).includes(name)),
  ];
  if (unknown.length > 0) usage(`There is no "${unknown[0]}".`);
  const choice: Choice = { store, faults, phases };
  if (pairs(choice).length === 0) usage("Nothing is left of that choice.");
  return { choice, seed, count };
}

/** How the same fault is brought again, alone. */
function replay(seed: number): string {
  const filters = (["fault", "phase"] as const).flatMap((option) =>
    (values[option] ?? []).map((name) => ` --${option} ${JSON.stringify(name)}`),
  );
  const store = values.store === "etcd" ? "" : ` --store ${values.store}`;
  return `npm run test:faults -- --seed ${seed} --count 1${store}${filters.join("")}`;
}

const table: Table = tableOf(readFileSync(PAGE, { encoding: "utf8", flag: "a+" }));
const now: Table = new Map();

/** What was run now replaces what stands in the page; the rest of it stays. */
function found(outcome: Outcome): void {
  const { fault, phase, seed } = outcome.plan;
  const cell = now.get(key(fault, phase)) ?? { runs: 0, worstMs: 0, failures: [] };
  now.set(key(fault, phase), {
    runs: cell.runs + 1,
    worstMs: Math.max(cell.worstMs, outcome.silenceMs),
    failures: outcome.ok ? cell.failures : [...cell.failures, `\`${replay(seed)}\`: ${outcome.why}`],
  });
  if (values.write) writePage();
}

function writePage(): void {
  writeFileSync(PAGE, faultsPage(new Map([...table, ...now])));
}

if (values.page) {
  writePage();
  process.exit(0);
}

const { choice, seed, count } = chosen();
const outcomes: Outcome[] = [];
let isInterrupted = false;
/** An interrupt lets the fault that is under way end; what was found counts. */
function* plans() {
  for (let i = 0; i < count && !isInterrupted; i++) yield planOf(seed + i, choice);
}
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, () => {
    isInterrupted = true;
  });
say(`seeds ${seed} to ${seed + count - 1}`);
{
  const options = {
    say,
    found: (outcome: Outcome) => {
      outcomes.push(outcome);
      found(outcome);
    },
  };
  const disks = pairs(choice).some(({ fault }) => fault === "disk full");
  await using site = await openFaultSite({ name: values.name, store: choice.store, disks }, options);
  await site.run.run(plans());
}

const failed = outcomes.flatMap((one) => (one.ok ? [] : [one]));
const seconds = (performance.now() - begun) / 1000;
if (values.json) {
  const totals = { faults: outcomes.length, failed: failed.length, seconds };
  process.stdout.write(`${JSON.stringify({ ...totals, results: outcomes }, null, 2)}\n`);
} else {
  for (const { plan, why } of failed)
    process.stdout.write(`✘ ${plan.fault}, ${plan.phase}: ${why}\n  ${replay(plan.seed)}\n`);
  process.stdout.write(`${outcomes.length} faults, ${failed.length} failed, ${seconds.toFixed(0)} s\n`);
}
process.exitCode = failed.length > 0 || isInterrupted ? 1 : 0;
