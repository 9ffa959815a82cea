/** The form of every benchmark's result. */
import { styleText } from "node:util";

/** What a figure shall be: at least, below. */
export type Goal = { atLeast: number } | { below: number };

export interface Figure {
  name: string;
  /** null: it could not be measured. */
  value: number | null;
  unit: string;
  /** `>= 20`, `< 2`; null: told for information. */
  goal: string | null;
  met: boolean | null;
}

export function figure(name: string, value: number | null, unit: string, goal?: Goal): Figure {
  const rounded = value === null || !Number.isFinite(value) ? null : Number(value.toPrecision(4));
  if (goal === undefined) return { name, value: rounded, unit, goal: null, met: null };
  const met = rounded !== null && ("atLeast" in goal ? rounded >= goal.atLeast : rounded < goal.below);
  return { name, value: rounded, unit, goal: "atLeast" in goal ? `>= ${goal.atLeast}` : `< ${goal.below}`, met };
}

/** A table for people. */
export function renderFigures(figures: Figure[], colour: boolean): string {
  const paint = (style: "green" | "red", text: string) =>
    colour ? styleText(style, text, { validateStream: false }) : text;
  const rows = figures.map(({ name, value, unit, goal }) => [
    name,
    value === null ? "—" : String(value),
    unit,
    goal ?? "",
  ]);
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: string[], met: boolean | null) => {
    const cells = row.map((cell, i) => (i === 1 ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)));
    const verdict = met === null ? "" : met ? paint("green", "met") : paint("red", "missed");
    return `${cells.join("  ")}  ${verdict}`.trimEnd();
  };
  return `${rows.map((row, i) => line(row, figures[i]!.met)).join("\n")}\n`;
}
