/** YAML files that people write: checked as a whole against a schema, with every mistake's file, line, key and what is allowed. */
import { type Document, LineCounter, parseAllDocuments } from "yaml";
import { z } from "zod";

/** @returns the file's documents, or its mistakes, one a line: `FILE:LINE: "KEY": what is wrong; allowed: …` */
export function parseYaml<S extends z.ZodType>(
  text: string,
  file: string,
  schema: S,
): { documents: z.output<S>[] } | { mistakes: string[] } {
  const lines = new LineCounter();
  const parsed = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false });
  const at = (line: number, message: string) => `${file}:${line}: ${message}`;
  const mistakes = parsed.flatMap(({ errors }) =>
    errors.map(({ pos, message }) => at(lines.linePos(pos[0]).line, message)),
  );
  if (mistakes.length > 0) return { mistakes };
  const documents: z.output<S>[] = [];
  for (const document of parsed as Document.Parsed[]) {
    // What stands between two separators may be nothing.
    const value: unknown = document.toJS();
    if (value === null) continue;
    const result = schema.safeParse(value, { reportInput: true });
    if (result.success) {
      documents.push(result.data);
      continue;
    }
    const found = explain(schema, result.error).map(({ path, message }) => ({
      line: lineOf(document, path, lines),
      message,
    }));
    mistakes.push(...found.sort((a, b) => a.line - b.line).map(({ line, message }) => at(line, message)));
  }
  return mistakes.length > 0 ? { mistakes } : { documents };
}

/** Characters of a wrong value. */
const MOST_SHOWN = 60;

export interface Mistake {
  path: PropertyKey[];
  message: string;
}

/** What is wrong with a value, in words that name the key and what is allowed there; parse it with `reportInput`. */
export function explain(schema: z.ZodType, error: z.ZodError): Mistake[] {
  return error.issues.flatMap((issue) => {
    if (issue.code === "unrecognized_keys") return issue.keys.map((key) => unknownKey(schema, issue.path, key));
    const where = issue.path.length === 0 ? "the document" : `"${issue.path.join(".")}"`;
    const allowed = allowedAt(schema, issue.path);
    const what = allowed === undefined ? issue.message : wrong(issue);
    const message = `${where}: ${what}${allowed === undefined ? "" : `; allowed: ${allowed}`}`;
    return [{ path: issue.path, message }];
  });
}

function wrong(issue: z.core.$ZodIssue): string {
  if (issue.input === undefined) return "is missing";
  const value = JSON.stringify(issue.input) ?? String(issue.input);
  return `${value.length > MOST_SHOWN ? `${value.slice(0, MOST_SHOWN)}…` : value} is not allowed`;
}

function unknownKey(schema: z.ZodType, path: PropertyKey[], key: string): Mistake {
  const known = Object.keys(shapeOf(partAt(schema, path)) ?? {});
  const near = known.find((one) => distance(one.toLowerCase(), key.toLowerCase()) <= 2);
  const hint = near === undefined ? "" : ` (did you mean "${near}"?)`;
  const where = [...path, key].join(".");
  return { path: [...path, key], message: `"${where}": there is no such key${hint}; allowed: ${known.join(", ")}` };
}

/** What the schema says of the deepest part of the path that it describes. */
function allowedAt(schema: z.ZodType, path: readonly PropertyKey[]): string | undefined {
  for (let length = path.length; length > 0; length--) {
    const description = partAt(schema, path.slice(0, length))?.description;
    if (description !== undefined) return description;
  }
  return undefined;
}

function partAt(schema: z.ZodType, path: readonly PropertyKey[]): z.ZodType | undefined {
  let part: z.ZodType | undefined = schema;
  for (const key of path) part = part && shapeOf(part)?.[String(key)];
  return part;
}

/** Keys of an object's schema, also inside of a default or an option. */
function shapeOf(schema: z.ZodType | undefined): Record<string, z.ZodType> | undefined {
  if (schema instanceof z.ZodObject) return schema.shape as Record<string, z.ZodType>;
  const inner = (schema?._zod.def as { innerType?: z.ZodType } | undefined)?.innerType;
  return inner && shapeOf(inner);
}

/** Line of the deepest part of the path that stands in the file: of the key, where there is one. */
function lineOf(document: Document.Parsed, path: readonly PropertyKey[], lines: LineCounter): number {
  for (let length = path.length; length > 0; length--) {
    const node = document.getIn(path.slice(0, length), true) as { range?: [number, number, number] } | undefined;
    if (node?.range) return lines.linePos(node.range[0]).line;
  }
  return lines.linePos(document.contents?.range[0] ?? 0).line;
}

/** Levenshtein's. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next[j] = Math.min(change, row[j]! + 1, next[j - 1]! + 1);
    }
    row = next;
  }
  return row[b.length]!;
}
