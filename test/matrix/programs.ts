/**
 * The self-checking test programs, found by looking: test/programs/KIND/NAME.c. What is special about one stands in the comment at
 * the head of its file, in lines of their own:
 *
 *   // Arguments: 1              one run with these arguments; several lines are several runs
 *   // Not through EVENT: why    the event cannot be made with it, or its outcome says nothing
 *   // Huge pages: 100           so many are set aside for it and its clones
 */
import { globSync, readFileSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");

export interface Run {
  /** `KIND/NAME`, with its arguments. */
  label: string;
  /** `KIND/NAME` */
  program: string;
  kind: string;
  arguments: string[];
  /** What the application is called; unlike all others. */
  application: string;
  /** Why it is not put through an event. */
  unsuited: ReadonlyMap<string, string>;
  hugePages: number;
}

/** Lines of the comment a file begins with, without `//`. */
function headOf(source: string): string[] {
  const lines = source.split("\n");
  const end = lines.findIndex((line) => !line.startsWith("//"));
  return lines.slice(0, end).map((line) => line.slice(2).trim());
}

interface Facts {
  runs: string[][];
  unsuited: Map<string, string>;
  hugePages: number;
}

function factsOf(head: string[]): Facts {
  const runs: string[][] = [];
  let hugePages = 0;
  const unsuited = new Map<string, string>();
  for (const line of head) {
    const given = /^Arguments: (.+)$/.exec(line);
    if (given) runs.push(given[1]!.split(/\s+/));
    const without = /^Not through ([\w -]+): (.+)$/.exec(line);
    if (without) unsuited.set(without[1]!, without[2]!);
    hugePages = Number(/^Huge pages: (\d+)$/.exec(line)?.[1] ?? hugePages);
  }
  return { runs: runs.length > 0 ? runs : [[]], unsuited, hugePages };
}

/** All of them, by kind and name. */
export function allRuns(): Run[] {
  return globSync("test/programs/*/*.c", { cwd: root })
    .sort()
    .flatMap((file) => {
      const kind = basename(dirname(file));
      const program = `${kind}/${basename(file, ".c")}`;
      const { runs, unsuited, hugePages } = factsOf(headOf(readFileSync(resolve(root, file), "utf8")));
      return runs.map((args) => ({
        label: [program, ...args].join(" "),
        program,
        kind,
        arguments: args,
        application: [kind, basename(file, ".c"), ...args]
          .join("-")
          .toLowerCase()
          .replace(/[^a-z0-9-]/g, "-"),
        unsuited,
        hugePages,
      }));
    });
}
