/** docs/resources.md from what the sources say and from what a run found; read back, so that a part of it can be run anew. */
import { EVENTS, POWER_OFF } from "./events.ts";
import type { Kind } from "./kinds.ts";
import type { Run } from "./programs.ts";
import type { Cell } from "./run.ts";

export const EVENT_NAMES = [...EVENTS.map(({ name }) => name), POWER_OFF];

const ABOUT = new Map([
  ...EVENTS.map(({ name, about }): [string, string] => [name, about]),
  [POWER_OFF, "its node is killed in one instant, with all that runs there, and comes back as a standby"],
]);

const HEAD = `# What is kept, kind by kind

Made by \`npm run test:resources -- --write\`: the sections from what the sources say (\`@kept\`, \`@unkept\`), the
[matrix](#matrix) from a run of every test program through every event in a lab of three nodes, each an application of its own,
twelve on every node. Nothing in it is written by hand.

What is refused by name, before it runs or by an event while it runs, is in the [README](../README.md#what-it-keeps-what-it-refuses-what-is-not-supported-yet).
`;

/** Cells by label of the run, then by event. */
export type Matrix = Map<string, Map<string, Cell>>;

export function resourcesPage(kinds: readonly Kind[], runs: readonly Run[], matrix: Matrix): string {
  return [HEAD, ...kinds.map((kind) => section(kind, runs)), matrixSection(runs, matrix)].join("\n");
}

function section({ name, kept, unkept }: Kind, runs: readonly Run[]): string {
  const programs = [...new Set(runs.filter(({ kind }) => kind === name).map(({ program }) => program))];
  const links = programs.map((program) => `[${program}](../test/programs/${program}.c)`).join(", ");
  const lines = [
    ...kept.map((text) => `- Kept: ${text}`),
    ...unkept.map((text) => `- Not kept: ${text}`),
    ...(links === "" ? [] : [`- Tested by ${links}`]),
  ];
  return `## ${name}\n\n${lines.join("\n")}\n`;
}

function matrixSection(runs: readonly Run[], matrix: Matrix): string {
  const notes: string[] = [];
  const note = (text: string) => {
    if (!notes.includes(text)) notes.push(text);
    return `[${notes.indexOf(text) + 1}]`;
  };
  const rows = runs.map(({ label }) => {
    const cells = EVENT_NAMES.map((event) => mark(matrix.get(label)?.get(event), note));
    return `| ${label} | ${cells.join(" | ")} |`;
  });
  const failed = [...matrix.values()].flatMap((cells) => [...cells.values()]).filter((cell) => "why" in cell).length;
  return [
    "## Matrix",
    "",
    ...EVENT_NAMES.map((name) => `- **${name}**: ${ABOUT.get(name)}`),
    "",
    "An event that names a phase lets just that phase fail ([phases.ts](../src/checkpoint/phases.ts)). ✔: the program found nothing",
    "wrong, it runs where it should, it is protected again, and nothing else failed meanwhile.",
    `${runs.length} runs of programs, ${EVENT_NAMES.length} events, ${failed} failed.`,
    "",
    `| program | ${EVENT_NAMES.join(" | ")} |`,
    `|---|${EVENT_NAMES.map(() => ":-:").join("|")}|`,
    ...rows,
    "",
    ...notes.map((text, i) => `${i + 1}. ${text}`),
    ...(notes.length > 0 ? [""] : []),
  ].join("\n");
}

function mark(cell: Cell | undefined, note: (text: string) => string): string {
  if (cell === undefined) return "not run";
  if ("skipped" in cell) return `– ${note(`Not put through it: ${cell.skipped}`)}`;
  return cell.ok ? "✔" : `✘ ${note(`Failed: ${cell.why.replaceAll("\n", " ")}`)}`;
}

/** The matrix that stands in a page; cells that were not run are not in it. */
export function matrixOf(page: string): Matrix {
  const lines = page.slice(page.indexOf("## Matrix")).split("\n");
  const head = lines.find((line) => line.startsWith("| program |"));
  if (head === undefined) return new Map();
  const events = cellsOf(head).slice(1);
  const notes = new Map(
    lines.flatMap((line) => [...line.matchAll(/^(\d+)\. (.*)$/g)].map(([, n, text]) => [n, text!])),
  );
  return new Map(
    lines.slice(lines.indexOf(head) + 2).flatMap((line): Array<[string, Map<string, Cell>]> => {
      if (!line.startsWith("| ")) return [];
      const [label, ...marks] = cellsOf(line);
      return [[label!, new Map(marks.flatMap((text, i) => cellOf(text, notes).map((cell) => [events[i]!, cell])))]];
    }),
  );
}

const cellsOf = (line: string) => line.slice(2, -2).split(" | ");

function cellOf(text: string, notes: ReadonlyMap<string | undefined, string>): Cell[] {
  const told = notes.get(/\[(\d+)\]/.exec(text)?.[1]) ?? "";
  if (text === "✔") return [{ ok: true }];
  if (text.startsWith("✘")) return [{ ok: false, why: told.replace(/^Failed: /, "") }];
  if (text.startsWith("–")) return [{ skipped: told.replace(/^Not put through it: /, "") }];
  return [];
}
