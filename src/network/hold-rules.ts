/** The node's packet filter rules that send an application's output into its queue. Set-up and clean-up only. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { OperatingError } from "../kernel/failure.ts";
import { FREE_MARK, FREE_MARK_MASK } from "./gate.ts";

/**
 * mangle/PREROUTING rather than FORWARD: what the application says to its own node does not pass FORWARD. Legacy xtables:
 * some kernels lack the queue in nftables.
 */
const CHAIN = ["-t", "mangle"];
const PROGRAMS = ["iptables-legacy", "ip6tables-legacy"] as const;

function run(program: string, args: string[]): string {
  const result = spawnSync(program, ["-w", "5", ...CHAIN, ...args], { encoding: "utf8" });
  if (result.status === 0) return result.stdout;
  throw new OperatingError(
    "hold-rule-failed",
    `Setting the rule that holds output failed: ${(result.stderr ?? "").trim()}`,
    {
      remedy: 'See that the package "iptables" is installed and that the kernel has NFQUEUE, physdev and mark matches.',
      details: { program, args },
      cause: result.error,
    },
  );
}

const hex = (value: number): string => `0x${value.toString(16)}`;

function rule(nodeEnd: string, queue: number): string[] {
  const spared = `${hex(FREE_MARK)}/${hex(FREE_MARK_MASK)}`;
  return [
    "-m",
    "physdev",
    "--physdev-in",
    nodeEnd,
    "-m",
    "mark",
    "!",
    "--mark",
    spared,
    "-j",
    "NFQUEUE",
    "--queue-num",
    `${queue}`,
  ];
}

/** Rules of this interface that stand now, as `-S` prints them, without the leading `-A`. */
function standing(program: string, nodeEnd: string): string[][] {
  return run(program, ["-S", "PREROUTING"])
    .split("\n")
    .map((line) => line.trim().split(" "))
    .filter((words) => words[0] === "-A" && words[words.indexOf("--physdev-in") + 1] === nodeEnd)
    .map((words) => words.slice(1));
}

/** Exactly one rule per protocol, for this queue. Never a moment without a rule when there was one before. */
export function installHoldRules(nodeEnd: string, queue: number): void {
  // Bridged packets reach these tables only with this switch, which belongs to the node's network namespace.
  for (const key of ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"])
    writeFileSync(`/proc/sys/net/bridge/${key}`, "1");
  for (const program of PROGRAMS) {
    const before = standing(program, nodeEnd);
    run(program, ["-I", "PREROUTING", "1", ...rule(nodeEnd, queue)]);
    for (const old of before) run(program, ["-D", ...old]);
  }
}

/** Removes every rule of this interface; no error when there is none. */
export function removeHoldRules(nodeEnd: string): void {
  for (const program of PROGRAMS) {
    for (const old of standing(program, nodeEnd)) run(program, ["-D", ...old]);
  }
}
