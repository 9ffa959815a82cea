/** Plain lines that say what happens: as readable in a log as on a terminal. */
import type { WriteStream } from "node:tty";
import { styleText } from "node:util";
import type { ApplicationReport } from "../src/agent/api-types.ts";
import type { AgentEvent } from "../src/agent/events.ts";
import { OperatingError } from "../src/kernel/failure.ts";
import type { Message } from "../workload/messages.ts";

type Style = Parameters<typeof styleText>[0];

export class Display {
  readonly #stream: WriteStream;
  readonly #began = performance.now();
  readonly #told = new Set<string>();

  constructor(stream: WriteStream) {
    this.#stream = stream;
  }

  title(text: string): void {
    this.#line(text, "bold");
  }

  step(text: string): void {
    this.#line(`  ${text}`);
  }

  /** Something that is done to the cluster. */
  act(text: string): void {
    this.#line(`» ${text}`, ["bold", "yellow"]);
  }

  problem(error: unknown): void {
    this.#line(`✗ ${error instanceof Error ? error.message : String(error)}`, "red");
    if (!(error instanceof OperatingError)) return;
    if (error.remedy !== undefined) this.#line(`  ${error.remedy}`);
    if (Object.keys(error.details).length > 0) this.#line(`  ${JSON.stringify(error.details)}`, "dim");
  }

  /** The second's line: who runs it, who stands by, what the clients get. */
  second(message: Extract<Message, { event: "progress" }>, report: ApplicationReport | undefined): void {
    const clients = `${count(message.perSecond)} answers/s, longest silence ${message.silenceMs.toFixed(0)} ms`;
    const harm = message.broken + message.missing > 0 ? `, ${message.broken} broken, ${message.missing} missing` : "";
    this.#line(`  ${describe(report).padEnd(44)} ${clients}${harm}`, harm === "" ? undefined : "red");
  }

  /** Tells those events that were not told yet. */
  events(events: AgentEvent[]): void {
    for (const { node, at, sequence, message } of events) {
      const key = `${node} ${at} ${sequence}`;
      if (this.#told.has(key)) continue;
      this.#told.add(key);
      this.#line(`  · ${node}: ${message}`, "dim");
    }
  }

  #line(text: string, style?: Style): void {
    const seconds = ((performance.now() - this.#began) / 1000).toFixed(1).padStart(6);
    const plain = !this.#stream.isTTY || style === undefined || process.env.NO_COLOR !== undefined;
    this.#stream.write(`${seconds} s  ${plain ? text : styleText(style, text, { validateStream: false })}\n`);
  }
}

function describe(report: ApplicationReport | undefined): string {
  if (report === undefined || report.primary === null) return "nobody tells where it runs";
  const standbys = report.standbys.map(({ node, state }) => `${node} ${state}`).join(", ") || "no standby";
  return `on ${report.primary} (${standbys})`;
}

export function count(value: number): string {
  return Math.round(value).toLocaleString("en");
}
