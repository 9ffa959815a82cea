/** Every test program through every event in a lab: see scripts/resources-test.ts for how to call it. */
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { Lab } from "../../src/lab/lab.ts";
import { setAsideHugePages } from "../support/huge-pages.ts";
import { buildPrograms } from "../support/programs.ts";
import { Cluster } from "./cluster.ts";
import { readKinds } from "./kinds.ts";
import { EVENT_NAMES, matrixOf, resourcesPage } from "./page.ts";
import { allRuns } from "./programs.ts";
import { type Result, runMatrix } from "./run.ts";

const NODES = 3;
const PAGE = resolve(import.meta.dirname, "../../docs/resources.md");

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    page: { type: "boolean", default: false },
    program: { type: "string", multiple: true },
    event: { type: "string", multiple: true },
    "per-node": { type: "string", default: "6" },
    name: { type: "string", default: `matrix${process.pid}` },
  },
});

const begun = performance.now();
const secondsPassed = () => (performance.now() - begun) / 1000;
const say = (text: string) => process.stderr.write(`${secondsPassed().toFixed(1).padStart(6)} s  ${text}\n`);

function usage(message: string): never {
  process.stderr.write(`${message}\nEvents: ${EVENT_NAMES.join(", ")}\n`);
  process.exit(2);
}

function chosen() {
  const { program, event } = values;
  const runs = allRuns().filter(
    (run) => program?.some((one) => [run.kind, run.program, run.label].includes(one)) ?? true,
  );
  if (runs.length === 0) usage(`There is no program "${program?.join('", "')}".`);
  const unknown = event?.find((name) => !EVENT_NAMES.includes(name));
  if (unknown !== undefined) usage(`There is no event "${unknown}".`);
  const perNode = Number(values["per-node"]);
  if (!(Number.isInteger(perNode) && perNode >= 1)) usage("Give --per-node a whole number, at least 1.");
  return { runs, events: event, perNode };
}

/** Processor time of everything in the lab, seconds. */
function cpuSeconds(lab: Lab): number {
  const text = readFileSync(join(lab.cgroup("node-a"), "..", "cpu.stat"), "utf8");
  return Number(/^usage_usec (\d+)/m.exec(text)?.[1]) / 1e6;
}

/** What was run now replaces what stands in the page; the rest of it stays. */
function write(results: readonly Result[]): void {
  const matrix = matrixOf(readFileSync(PAGE, { encoding: "utf8", flag: "a+" }));
  for (const { run, cells } of results) matrix.set(run.label, new Map([...(matrix.get(run.label) ?? []), ...cells]));
  writeFileSync(PAGE, resourcesPage(readKinds(), allRuns(), matrix));
}

const { runs, events, perNode } = chosen();
if (values.page) {
  write([]);
  process.exit(0);
}
buildPrograms();
const hugePages = runs.reduce((sum, run) => sum + run.hugePages, 0);
const giveBack = hugePages > 0 ? setAsideHugePages(hugePages) : () => {};
const lab = new Lab({ name: values.name });
process.on("exit", giveBack);
process.on("SIGINT", () => void lab.down().finally(() => process.exit(130)));
process.on("SIGTERM", () => void lab.down().finally(() => process.exit(143)));
let results: Result[];
let cpu: number;
try {
  await lab.up({ nodes: NODES, onProgress: say });
  const { nodes } = await lab.status();
  const cluster = new Cluster(
    lab,
    nodes.map(({ name }) => name),
  );
  results = await runMatrix(cluster, runs, { events, perNode, say, ...(values.write && { found: write }) });
  cpu = cpuSeconds(lab);
} finally {
  await lab.down();
}

const cells = results.flatMap(({ run, cells }) =>
  [...cells].map(([event, cell]) => ({ program: run.label, event, ...cell })),
);
const failed = cells.filter((cell) => "why" in cell);
const skipped = cells.filter((cell) => "skipped" in cell);
if (values.json) {
  const totals = { cells: cells.length, failed: failed.length, skipped: skipped.length };
  process.stdout.write(
    `${JSON.stringify({ ...totals, seconds: secondsPassed(), cpuSeconds: cpu, results: cells }, null, 2)}\n`,
  );
} else {
  for (const { program, event, why } of failed) process.stdout.write(`✘ ${program}, ${event}: ${why}\n`);
  const seconds = `${secondsPassed().toFixed(0)} s (${cpu.toFixed(0)} s of processor time)`;
  process.stdout.write(`${cells.length} cells, ${failed.length} failed, ${skipped.length} left out, ${seconds}\n`);
}
process.exitCode = failed.length > 0 ? 1 : 0;
