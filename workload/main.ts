/**
 * One workload as a process of its own, so that it can run in the client host's namespace:
 * `node workload/main.ts counters|load|fill --host H --port P [options]`. Speaks `Message`s, hears `Command`s.
 */
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { Counters } from "./counters.ts";
import { fill, Load } from "./load.ts";
import type { Command, Message } from "./messages.ts";

const DEFAULTS = {
  host: "127.0.0.1",
  port: 6379,
  connections: 50,
  slots: 200,
  "value-bytes": 0,
  "pace-ms": 0,
  "progress-ms": 1000,
  "drain-ms": 10_000,
  pipeline: 16,
  keys: 100_000,
  seconds: 0,
};

export type WorkloadMode = "counters" | "load" | "fill";

/** A counter's value is short, one of the data set about as long as a small document. */
const VALUE_BYTES: Record<WorkloadMode, number> = { counters: 100, load: 900, fill: 900 };

function tell(message: Message): void {
  process.stdout.write(JSON.stringify(message) + "\n");
}

function readOptions(): { mode: WorkloadMode; host: string; of(name: Exclude<keyof typeof DEFAULTS, "host">): number } {
  const options = Object.fromEntries(Object.keys(DEFAULTS).map((name) => [name, { type: "string" as const }]));
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const mode = positionals[0];
  if (mode !== "counters" && mode !== "load" && mode !== "fill") {
    throw new Error(`Unknown workload ${JSON.stringify(mode ?? "")}: counters, load or fill`);
  }
  const of = (name: Exclude<keyof typeof DEFAULTS, "host">): number => {
    const text = values[name];
    if (text === undefined) return name === "value-bytes" ? VALUE_BYTES[mode] : DEFAULTS[name];
    const number = Number(text);
    if (!Number.isFinite(number) || number < 0) throw new Error(`--${name} ${JSON.stringify(text)} is not a number`);
    return number;
  };
  return { mode, host: typeof values.host === "string" ? values.host : DEFAULTS.host, of };
}

async function main(): Promise<void> {
  const { mode, host, of } = readOptions();
  const common = { host, port: of("port"), valueBytes: of("value-bytes") };
  if (mode === "fill") {
    let toldAt = performance.now();
    const result = await fill({ ...common, keys: of("keys") }, (answered) => {
      if (performance.now() - toldAt < of("progress-ms")) return;
      toldAt = performance.now();
      tell({ event: "progress", answered, perSecond: 0, silenceMs: 0, broken: 0, missing: 0 });
    });
    return tell({ event: "finished", result });
  }
  const shared = { ...common, connections: of("connections"), progressMs: of("progress-ms") };
  const workload =
    mode === "counters"
      ? await Counters.connect({ ...shared, slots: of("slots"), paceMs: of("pace-ms"), drainMs: of("drain-ms") })
      : await Load.connect({ ...shared, pipeline: of("pipeline"), keys: of("keys"), seconds: of("seconds") });
  workload.onBroken = (connection, reason) => tell({ event: "broken", connection, reason });
  if (workload instanceof Counters) workload.onFinding = (text) => tell({ event: "finding", text });
  tell({ event: "ready", connections: shared.connections });
  workload.start("start");
  const progress = shared.progressMs > 0 ? setInterval(reporter(workload), shared.progressMs) : undefined;
  await toldToStop(of("seconds") * 1000, (name) => tell({ event: "marked", name, ended: workload.mark(name) }));
  clearInterval(progress);
  tell({ event: "finished", result: await workload.stop() });
}

function reporter(workload: Counters | Load): () => void {
  let last = { answered: 0, at: performance.now() };
  return () => {
    const now = { ...workload.progress, at: performance.now() };
    const perSecond = Math.round(((now.answered - last.answered) * 1000) / (now.at - last.at));
    tell({ event: "progress", ...workload.progress, perSecond, silenceMs: workload.takeRecentSilence() });
    last = now;
  };
}

/** Resolves at the command `stop` or after `limitMs` (0: no limit). When the parent is gone nobody wants the rest. */
function toldToStop(limitMs: number, onMark: (name: string) => void): Promise<void> {
  return new Promise((resolve) => {
    if (limitMs > 0) setTimeout(resolve, limitMs);
    const lines = createInterface({ input: process.stdin });
    lines.on("line", (line) => {
      const command = JSON.parse(line) as Command;
      if (command.command === "mark") onMark(command.name);
      else resolve();
    });
    lines.on("close", () => {
      if (limitMs === 0) process.exit(1);
    });
  });
}

// A terminal's Ctrl-C reaches the whole process group: the parent decides what ends when.
process.on("SIGINT", () => {});
process.stdout.on("error", () => process.exit(1));
try {
  await main();
  process.exitCode = 0;
} catch (error) {
  tell({ event: "failed", message: error instanceof Error ? error.message : String(error) });
  process.exitCode = 1;
}
process.stdin.destroy();
