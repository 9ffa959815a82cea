/**
 * The audit trail: who asked this agent to change what, and what came of it. Lines of JSON in a file that is only ever appended
 * to: one before the change begins, one when it has ended, so that a change that an agent did not survive is there as well.
 */
import { randomUUID } from "node:crypto";
import {
  closeSync,
  existsSync,
  fdatasyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import type { AuditEntry } from "./api-types.ts";

export interface AuditOptions {
  /** A file that has become larger is put aside: `FILE.1` is the newest of those. */
  fileBytes: number;
  filesKept: number;
}

const defaults: AuditOptions = { fileBytes: 8 * 2 ** 20, filesKept: 8 };
const MOST_BODY = 2000;

type Begun = Omit<AuditEntry, "result" | "endedAt">;
type Asked = Omit<Begun, "at" | "body"> & { body?: unknown };
type Line = ({ id: string } & Begun) | { id: string; endedAt: string; result: string };

export class AuditTrail {
  readonly #path: string;
  readonly #options: AuditOptions;
  #fd: number;
  #bytes: number;

  constructor(path: string, options: Partial<AuditOptions> = {}) {
    this.#path = path;
    this.#options = { ...defaults, ...options };
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    this.#bytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    this.#fd = openSync(path, "a", 0o600);
  }

  /** Is on disk when this returns. Call what it returns with what came of it: `done`, or a failure's code. */
  begin(entry: Asked): (result: string) => void {
    const id = randomUUID();
    const { body, ...rest } = entry;
    const said = body === undefined ? {} : { body: withoutSecrets(body) };
    this.#append({ id, at: new Date().toISOString(), ...rest, ...said });
    let ended = false;
    return (result) => {
      if (ended) return;
      ended = true;
      this.#append({ id, endedAt: new Date().toISOString(), result });
    };
  }

  /** Oldest first. `result` is absent while it goes on, or when the agent ended before it did. */
  list(): AuditEntry[] {
    const entries = new Map<string, AuditEntry>();
    for (const path of this.#files().reverse()) {
      for (const text of readFileSync(path, "utf8").split("\n")) {
        const line = parse(text);
        if (line === undefined) continue;
        const { id, ...rest } = line;
        entries.set(id, { ...entries.get(id), ...rest } as AuditEntry);
      }
    }
    return [...entries.values()].filter(({ at }) => at !== undefined);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #append(line: Line): void {
    const text = `${JSON.stringify(line)}\n`;
    this.#bytes += writeSync(this.#fd, text);
    fdatasyncSync(this.#fd);
    if (this.#bytes > this.#options.fileBytes) this.#rotate();
  }

  #rotate(): void {
    closeSync(this.#fd);
    const { filesKept } = this.#options;
    rmSync(`${this.#path}.${filesKept}`, { force: true });
    for (let number = filesKept - 1; number >= 1; number--) {
      if (existsSync(`${this.#path}.${number}`)) renameSync(`${this.#path}.${number}`, `${this.#path}.${number + 1}`);
    }
    renameSync(this.#path, `${this.#path}.1`);
    this.#fd = openSync(this.#path, "a", 0o600);
    this.#bytes = 0;
  }

  /** Newest first. */
  #files(): string[] {
    const numbers = Array.from({ length: this.#options.filesKept }, (_, index) => `${this.#path}.${index + 1}`);
    return [this.#path, ...numbers].filter((path) => existsSync(path));
  }
}

/** The last line of a machine that lost power may be half. */
function parse(text: string): Line | undefined {
  try {
    return text === "" ? undefined : (JSON.parse(text) as Line);
  } catch {
    return undefined;
  }
}

const SECRET_KEYS = new Set(["token", "csr", "secret", "password"]);

/** What may be secret is named without its value: tokens, and the values of an environment. */
function withoutSecrets(body: unknown): string {
  const text = JSON.stringify(body, (key, value: unknown) => {
    if (SECRET_KEYS.has(key)) return "(hidden)";
    if (key !== "environment" || value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.keys(value).map((name) => [name, "(hidden)"]));
  });
  return text.length > MOST_BODY ? `${text.slice(0, MOST_BODY)}…` : text;
}
