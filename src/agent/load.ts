/** How much of this node its applications use: measured every few seconds, told in `Health`. */
import { readFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import type { Load } from "../cluster/placement.ts";
import { readPidFile } from "../instance/pid-file.ts";
import type { AgentContext } from "./context.ts";

const PERIOD_MS = 2_000;
/** Of the newest measure in the mean that is told: what lasts for a moment moves nothing. */
const WEIGHT = 0.2;
/** Bytes per second; a card of one gigabit, for nodes that do not say. */
const NETWORK = 125e6;

interface Sample {
  atMs: number;
  cpuUs: number;
  networkBytes: number;
}

export class LoadMeter {
  readonly #context: AgentContext;
  readonly #samples = new Map<string, Sample>();
  readonly #loads = new Map<string, Load>();

  constructor(context: AgentContext) {
    this.#context = context;
  }

  start(signal: AbortSignal): void {
    const timer = setInterval(() => this.measure(performance.now()), PERIOD_MS);
    signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  }

  /** Of each application whose primary is here. */
  get loads(): Record<string, Load> {
    return Object.fromEntries(this.#loads);
  }

  get capacity(): Load {
    const { cpu = availableParallelism(), memory = totalmem(), network = NETWORK } = this.#context.config.capacity;
    return { cpu, memory, network };
  }

  measure(atMs: number): void {
    const { instances, layout, config } = this.#context;
    const primaries = instances.list().filter(({ status }) => status?.role === "primary");
    const names = new Set(primaries.map(({ application }) => application));
    for (const gone of [...this.#loads.keys()].filter((name) => !names.has(name))) {
      this.#loads.delete(gone);
      this.#samples.delete(gone);
    }
    const interfaces = interfaceBytes();
    for (const { application, status } of primaries) {
      const veth = readPidFile(config.runDirectory, application)?.veth ?? "";
      const now = {
        atMs,
        cpuUs: cpuOf(layout.applicationCgroup(application)),
        networkBytes: interfaces.get(veth) ?? 0,
      };
      const before = this.#samples.get(application);
      this.#samples.set(application, now);
      if (before === undefined || now.atMs <= before.atMs) continue;
      const seconds = (now.atMs - before.atMs) / 1000;
      const fresh = {
        cpu: Math.max(0, now.cpuUs - before.cpuUs) / 1e6 / seconds,
        memory: status!.figures.residentBytes,
        network: Math.max(0, now.networkBytes - before.networkBytes) / seconds,
      };
      const old = this.#loads.get(application) ?? fresh;
      const mean = (a: number, b: number) => a + WEIGHT * (b - a);
      this.#loads.set(application, {
        cpu: mean(old.cpu, fresh.cpu),
        memory: fresh.memory,
        network: mean(old.network, fresh.network),
      });
    }
  }
}

/** Processor time of a cgroup with all below it, microseconds (cgroup-v2.rst, cpu.stat is there without the controller, too). */
function cpuOf(cgroup: string): number {
  try {
    return Number(/^usage_usec (\d+)$/m.exec(readFileSync(join(cgroup, "cpu.stat"), "utf8"))?.[1] ?? 0);
  } catch {
    // It has just ended.
    return 0;
  }
}

/** Bytes in and out of each interface of this node (proc_pid_net(5): dev). */
function interfaceBytes(): Map<string, number> {
  const lines = readFileSync("/proc/self/net/dev", "utf8").split("\n").slice(2);
  return new Map(
    lines.flatMap((line): [string, number][] => {
      const [name = "", rest] = line.trim().split(":");
      const numbers = rest?.trim().split(/\s+/).map(Number);
      return numbers === undefined ? [] : [[name, numbers[0]! + numbers[8]!]];
    }),
  );
}
