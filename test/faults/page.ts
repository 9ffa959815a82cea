/** docs/faults.md from what runs found; read back, so that a part of it can be run anew. */
import { FAULT_NAMES, FAULTS, type FaultName, PHASE_NAMES, PHASES, type PhaseName } from "./plan.ts";

/** What was found in one place of the table. */
export interface Cell {
  runs: number;
  worstMs: number;
  /** Seeds and why, in words. */
  failures: readonly string[];
}

/** Cells by `key`. */
export type Table = Map<string, Cell>;

export const key = (fault: string, phase: string) => `${fault}, ${phase}`;

const HEAD = `# Faults

Made by \`npm run test:faults -- --write\`: three nodes with the cluster store among them, a Redis with two standbys, and twenty clients
that write numbered values and look for each of them once more. One fault after the other is brought in the phase that the table
says; its node, its moment and how long it lasts follow from a seed. After each it is judged: nothing missing that was acknowledged,
nothing there twice or that nobody wrote, no connection broken, one primary per term, answers again while the fault lasts (where the
rules promise it) and after it, all standbys in sync again, and one copy that runs. Nothing here is written by hand.
`;

export function faultsPage(table: Table): string {
  const notes: string[] = [];
  const cells = [...table.values()];
  const runs = cells.reduce((sum, cell) => sum + cell.runs, 0);
  const failed = cells.reduce((sum, cell) => sum + cell.failures.length, 0);
  return [
    HEAD,
    ...FAULT_NAMES.map((name) => `- **${name}**: ${FAULTS[name]}`),
    "",
    ...PHASE_NAMES.map((name) => `- **${name}**: ${PHASES[name]}`),
    "",
    "A cell: how often, ✔ or ✘, and the longest time in which no client got an answer, where the verdict is good.",
    `${runs} faults, ${failed} failed.`,
    "",
    `| fault | ${PHASE_NAMES.join(" | ")} |`,
    `|---|${PHASE_NAMES.map(() => ":-:").join("|")}|`,
    ...FAULT_NAMES.map((fault) => `| ${fault} | ${PHASE_NAMES.map((phase) => mark(fault, phase)).join(" | ")} |`),
    "",
    ...notes.map((text, i) => `${i + 1}. ${text}`),
    ...(notes.length > 0 ? [""] : []),
  ].join("\n");

  function mark(fault: FaultName, phase: PhaseName): string {
    const cell = table.get(key(fault, phase));
    if (cell === undefined) return "not run";
    const numbers = cell.failures.map((text) => `[${notes.push(text.replaceAll("\n", " "))}]`);
    const verdict = numbers.length === 0 ? "✔" : `✘ ${numbers.join(" ")}`;
    return `${cell.runs} × ${verdict} ${cell.worstMs} ms`;
  }
}

/** The table that stands in a page; what was not run is not in it. */
export function tableOf(page: string): Table {
  const lines = page.split("\n");
  const head = lines.findIndex((line) => line.startsWith("| fault |"));
  if (head < 0) return new Map();
  const phases = cellsOf(lines[head]!).slice(1);
  const notes = new Map(
    lines.slice(head).flatMap((line) => [...line.matchAll(/^(\d+)\. (.*)$/g)].map(([, n, text]) => [n!, text!])),
  );
  return new Map(
    lines.slice(head + 2).flatMap((line): [string, Cell][] => {
      if (!line.startsWith("| ")) return [];
      const [fault, ...marks] = cellsOf(line);
      return marks.flatMap((text, i): [string, Cell][] => {
        const found = /^(\d+) × .* (\d+) ms$/.exec(text);
        if (found === null) return [];
        const failures = [...text.matchAll(/\[(\d+)\]/g)].map(([, n]) => notes.get(n!) ?? "");
        return [[key(fault!, phases[i]!), { runs: Number(found[1]), worstMs: Number(found[2]), failures }]];
      });
    }),
  );
}

const cellsOf = (line: string) => line.slice(2, -2).split(" | ");
