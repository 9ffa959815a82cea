/**
 * docs/errors.md from the sources: every code of an operating error with its messages and remedies.
 *
 *   node scripts/errors.ts           writes the page
 *   node scripts/errors.ts --check   ends with 1 when the page is not current
 */
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

interface Found {
  code: string;
  message: string;
  remedy: string | undefined;
}

const root = resolve(import.meta.dirname, "..");
const PAGE = join(root, "docs/errors.md");
const CALL = "new OperatingError(";

/** End of the string or template that begins at `at`: index behind its closing quote. */
function endOfText(source: string, at: number): number {
  const quote = source[at];
  for (let i = at + 1; i < source.length; i++) {
    if (source[i] === "\\") i++;
    else if (source[i] === quote) return i + 1;
    else if (quote === "`" && source.startsWith("${", i)) i = endOfGroup(source, i + 1) - 1;
  }
  return source.length;
}

/** Index behind the bracket that closes the one at `at`; brackets inside texts do not count. */
function endOfGroup(source: string, at: number): number {
  let depth = 0;
  for (let i = at; i < source.length; i++) {
    const c = source[i]!;
    if (`"'\``.includes(c)) i = endOfText(source, i) - 1;
    else if ("([{".includes(c)) depth++;
    else if (")]}".includes(c) && --depth === 0) return i + 1;
  }
  return source.length;
}

/** Arguments of the call whose opening bracket is at `at`, as they stand in the source. */
function argumentsAt(source: string, at: number): string[] {
  const end = endOfGroup(source, at) - 1;
  const parts: string[] = [];
  let from = at + 1;
  for (let i = from; i < end; i++) {
    const c = source[i]!;
    if (`"'\``.includes(c)) i = endOfText(source, i) - 1;
    else if ("([{".includes(c)) i = endOfGroup(source, i) - 1;
    else if (c === ",") {
      parts.push(source.slice(from, i).trim());
      from = i + 1;
    }
  }
  return [...parts, source.slice(from, end).trim()].filter(Boolean);
}

/** Texts as a reader sees them: what is filled in stands as `…`. Undefined for what is not a plain text. */
function asText(expression: string): string | undefined {
  if (!`"'\``.includes(expression[0] ?? " ") || endOfText(expression, 0) !== expression.length) return undefined;
  let text = "";
  for (let i = 1; i < expression.length - 1; i++) {
    if (expression.startsWith("${", i) && expression[0] === "`") {
      i = endOfGroup(expression, i + 1) - 1;
      text += "…";
    } else if (expression[i] === "\\") text += expression[++i] === "n" ? " " : expression[i];
    else text += expression[i];
  }
  return text;
}

function remedyOf(options: string): string | undefined {
  const at = /\bremedy:\s*/.exec(options);
  if (!at) return undefined;
  const from = at.index + at[0].length;
  return asText(options.slice(from, endOfText(options, from))) ?? "depends on the case";
}

function errorsIn(source: string): Found[] {
  const found: Found[] = [];
  for (let at = source.indexOf(CALL); at >= 0; at = source.indexOf(CALL, at + 1)) {
    const [code = "", message = "", options = ""] = argumentsAt(source, at + CALL.length - 1);
    const name = asText(code);
    if (name !== undefined) found.push({ code: name, message: asText(message) ?? "…", remedy: remedyOf(options) });
  }
  return found;
}

const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("<", "&lt;");
const unique = (texts: Array<string | undefined>) => [...new Set(texts.filter((text) => text !== undefined))];

/** The page as it shall be. */
export function errorsPage(): string {
  const files = globSync("src/**/*.ts", { cwd: root }).sort();
  const byCode = Map.groupBy(
    files.flatMap((file) => errorsIn(readFileSync(join(root, file), "utf8"))),
    ({ code }) => code,
  );
  const rows = [...byCode]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([code, errors]) => {
      const messages = unique(errors.map(({ message }) => message));
      const remedies = unique(errors.map(({ remedy }) => remedy));
      return `| \`${code}\` | ${messages.map(cell).join("<br>")} | ${remedies.map(cell).join("<br>")} |`;
    });
  return `# Errors

Made from the sources by \`node scripts/errors.ts\`. Codes are stable: scripts may depend on them. \`…\` stands for what is filled in. With
\`--json\` a failure is \`{"error": {code, message, remedy?, details?}}\` on standard output. Codes that are not here: \`internal\` (a
mistake in Understudy itself), and those of refused requests to the view: \`already-running\`, \`not-running\`, \`busy\`, \`overtaken\`.

| code | message | what to do |
|---|---|---|
${rows.join("\n")}
`;
}

if (import.meta.main) {
  const page = errorsPage();
  if (!process.argv.includes("--check")) writeFileSync(PAGE, page);
  else if (readFileSync(PAGE, "utf8") !== page) {
    process.stderr.write("docs/errors.md is not current. Run: node scripts/errors.ts\n");
    process.exitCode = 1;
  }
}
