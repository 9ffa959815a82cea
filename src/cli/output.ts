/** How commands speak: results on standard output, everything else on standard error. */
import { type Failure, toFailure } from "../kernel/failure.ts";

/** One JSON document. */
export function printJson(document: unknown): void {
  process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
}

export function print(text: string): void {
  process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
}

export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** The message, then what can be done about it; with `json` also as a document on standard output. */
export function printFailure(error: unknown, json: boolean): void {
  const failure: Failure = toFailure(error);
  if (json) printJson({ error: failure });
  say(`understudy: ${failure.message}`);
  if (failure.remedy) say(failure.remedy);
  if (failure.code === "internal" && process.env.UNDERSTUDY_DEBUG && error instanceof Error) say(error.stack ?? "");
}

export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Seconds in words: 45 s, 3 min 20 s, 2 h 5 min. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Microseconds as milliseconds, with the digits that matter. */
export function milliseconds(us: number): string {
  const ms = us / 1000;
  return `${ms >= 100 ? Math.round(ms) : ms >= 10 ? ms.toFixed(1) : ms.toFixed(2)} ms`;
}

export function shellWords(command: readonly string[]): string {
  return command.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(" ");
}
