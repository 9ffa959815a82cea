/** What following files costs real loads, protected beside unprotected, and how fast a new standby is filled, beside rsync. */
import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import type { ApplyRequest, ApplyResult, StreamLine } from "../src/agent/api-types.ts";
import { AgentClient } from "../src/agent/client.ts";
import { fromFailure } from "../src/kernel/failure.ts";
import type { Lab } from "../src/lab/lab.ts";
import { ProtectedApplication } from "../workload/application.ts";
import { median } from "../workload/checkpoint-samples.ts";
import { measureRate } from "../workload/rate.ts";
import { RedisSite, SERVICE } from "../workload/site.ts";

const SCRIPT = new URL("files-work.sh", import.meta.url).pathname;
const ADDRESS = "10.77.0.31/24";
const LIMIT_MS = 180_000;
const POLL_MS = 200;

export const LOADS = ["tar", "compile", "blocks"] as const;
export type Load = (typeof LOADS)[number];

export interface Pair {
  protected: number;
  unprotected: number;
}

/** Seconds of a turn, medians; unprotected before and after, as the machine may be busier at one time than at another. */
export async function measureLoad(lab: Lab, kind: Load, turns: number): Promise<Pair> {
  const before = await unprotectedTurns(lab, kind, turns);
  const during = await protectedTurns(lab, kind, turns);
  const after = await unprotectedTurns(lab, kind, turns);
  return { protected: median(during) / 1e6, unprotected: median([...before, ...after]) / 1e6 };
}

async function unprotectedTurns(lab: Lab, kind: Load, turns: number): Promise<number[]> {
  // One more: the first fills caches.
  const script = `sh ${SCRIPT} /var/tmp/load ${kind} ${turns + 1} && cat /var/tmp/load/took && rm -r /var/tmp/load`;
  const { code, stdout, stderr } = await lab.exec("node-a", ["sh", "-c", script], { timeoutMs: LIMIT_MS });
  if (code !== 0) throw new Error(`The unprotected ${kind} failed: ${stderr}`);
  return numbers(stdout).slice(1);
}

async function protectedTurns(lab: Lab, kind: Load, turns: number): Promise<number[]> {
  const command = ["/bin/sh", SCRIPT, "/var/tmp/load", kind, "1000000"];
  const application = new ProtectedApplication(lab, { name: kind, command, address: ADDRESS });
  await application.protect({ limitMs: LIMIT_MS });
  try {
    // A turn that began before the standby was in sync counts as little as the first.
    const from = (await took(application)).length + 1;
    const until = performance.now() + LIMIT_MS;
    for (;;) {
      const all = await took(application);
      if (all.length >= from + turns) {
        const { inSync, term } = await application.report();
        if (inSync.length === 0 || term !== 1) throw new Error(await lostBy(application));
        return all.slice(from, from + turns);
      }
      if (performance.now() > until) throw new Error(`The protected ${kind} took too long`);
      await sleep(POLL_MS);
    }
  } finally {
    await application.stop();
  }
}

async function lostBy(application: ProtectedApplication): Promise<string> {
  const lost = (await application.events()).filter(({ kind }) => kind === "standby-lost" || kind === "clone-lost");
  return ["The standby was lost", ...lost.map(({ message }) => message)].join("; ");
}

async function took({ lab, name }: ProtectedApplication): Promise<number[]> {
  const { stdout } = await lab.exec("node-a", ["understudy", "files", name, "cat", "/var/tmp/load/took"]);
  return numbers(stdout);
}

const numbers = (text: string) => text.trim().split("\n").filter(Boolean).map(Number);

const CLIENTS = 50;

/** SETs a second of a Redis that syncs its append-only file before each answer: 50 clients, one request in flight each. */
export async function measureRedis(lab: Lab, seconds: number): Promise<Pair> {
  const site = new RedisSite(lab, ["--appendonly", "yes", "--appendfsync", "always", "--dir", "/var/tmp"]);
  const rate = async (target: { host: string; port: number }) => {
    const options = { kind: "numbered", connections: CLIENTS, pipeline: 1, seconds, megabytes: 0 } as const;
    return (await measureRate(site, target, options)).perSecond;
  };
  const unprotected = async () => {
    await using redis = await site.unprotected();
    return await rate(redis);
  };
  const before = await unprotected();
  await site.protect({ limitMs: LIMIT_MS });
  try {
    const during = await rate(SERVICE);
    if ((await site.report()).inSync.length === 0) throw new Error("The standby was lost");
    await site.stop();
    const after = await unprotected();
    return { protected: during, unprotected: (before + after) / 2 };
  } catch (error) {
    await site.stop().catch(() => {});
    throw error;
  }
}

export interface Filling {
  /** Bytes a second: of the application's files and memory; of the same files by rsync. */
  copied: number;
  rsync: number;
}

const LARGE_FILES = 4;
const LARGE_MB = 64;
const SMALL_FILES = 2000;
const SMALL_KB = 16;
export const FILLED_BYTES = LARGE_FILES * LARGE_MB * 2 ** 20 + SMALL_FILES * SMALL_KB * 2 ** 10;
/** At a path of each: a file of the node's own of the same name would be looked at for what can be had from it. */
const make = (directory: string) => `mkdir -p ${directory}/small && cd ${directory}
for i in $(seq ${LARGE_FILES}); do head -c ${LARGE_MB}M /dev/urandom >large$i; done
head -c ${SMALL_FILES * SMALL_KB}K /dev/urandom | split -b ${SMALL_KB}K -a 4 - small/`;
const FILLED = ["/bin/sh", "-c", `${make("/var/tmp/data")}; sync; touch ready; exec sleep 100000`];
const RSYNC_PORT = 8873;
const TOUCHED_BYTES = 2 ** 30;

/** Each of the two in turns, to a standby that has nothing. */
export async function measureFilling(lab: Lab, times: number): Promise<Filling> {
  const rsync: number[] = [];
  const copied: number[] = [];
  const applications: ProtectedApplication[] = [];
  await must(lab, "node-a", `(${make("/var/tmp/source")})`);
  try {
    for (let i = 0; i < times; i++) {
      const program = { name: `filled-${i}`, command: FILLED, address: `10.77.0.${40 + i}/24` };
      const application = new ProtectedApplication(lab, program);
      applications.push(application);
      copied.push(await fillByCopy(application));
      rsync.push(await fillByRsync(lab, `/var/tmp/copy${i}`));
    }
  } finally {
    // Only now: ext4 passes over inodes that were in use a moment ago one by one, and what comes next would pay for it.
    for (const application of applications) await application.stop();
  }
  await must(lab, "node-a", "rm -r /var/tmp/source");
  await must(lab, "node-b", "rm -r /var/tmp/copy*");
  return { copied: median(copied), rsync: median(rsync) };
}

/**
 * A virtual machine may have given free memory back to its host; what is written to it first waits for the host page by page,
 * at a tenth of the speed. Each of the two is to begin with memory that is there.
 */
function touchMemory(): void {
  execFileSync(process.execPath, ["-e", `Buffer.alloc(${TOUCHED_BYTES}, 1)`]);
}

async function must(lab: Lab, node: string, script: string): Promise<string> {
  const { code, stdout, stderr } = await lab.exec(node, ["sh", "-ec", script], { timeoutMs: LIMIT_MS });
  if (code !== 0) throw new Error(`On ${node}: ${stderr || stdout}`);
  return stdout;
}

/** Its daemon on the other node, so that no cipher and no start of a shell is in between. */
async function fillByRsync(lab: Lab, directory: string): Promise<number> {
  const { address } = await lab.requireNode("node-b");
  const settings = `[data]\n path = ${directory}\n read only = no\n use chroot = no\n uid = 0\n gid = 0\n`;
  await must(lab, "node-b", `mkdir -p ${directory}; printf '${settings}' >/var/tmp/rsyncd.conf`);
  const daemon = ["rsync", "--daemon", "--no-detach", `--port=${RSYNC_PORT}`, "--config=/var/tmp/rsyncd.conf"];
  const child = await lab.spawn("node-b", daemon, { stdio: "ignore" });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  try {
    const target = `rsync://${address}:${RSYNC_PORT}/data/`;
    // Until the daemon listens, and to have its program in memory.
    await must(
      lab,
      "node-a",
      `for i in $(seq 100); do rsync ${target} >/dev/null 2>&1 && exit; sleep 0.1; done; exit 1`,
    );
    touchMemory();
    const script = `began=$(date +%s%N); rsync -a /var/tmp/source/ ${target}; echo $((($(date +%s%N) - began) / 1000))`;
    const us = Number(await must(lab, "node-a", script));
    return FILLED_BYTES / (us / 1e6);
  } finally {
    child.kill();
    await ended;
    await must(lab, "node-b", "rm /var/tmp/rsyncd.conf");
  }
}

async function fillByCopy(application: ProtectedApplication): Promise<number> {
  const { lab, program } = application;
  await application.protect({ standby: [], limitMs: LIMIT_MS });
  const list = `until understudy files ${program.name} ls /var/tmp/data | grep -q ready; do sleep 0.2; done`;
  await must(lab, "node-a", list);
  touchMemory();
  await addStandby(lab, { ...program, standby: ["node-b"] });
  const event = (await application.events()).findLast(({ kind }) => kind === "synchronised");
  const { seconds, bytes, keptBytes } = event!.details as { seconds: number; bytes: number; keptBytes: number };
  if (keptBytes > 0 || bytes < FILLED_BYTES) throw new Error(`Not a whole copy: ${JSON.stringify(event)}`);
  return bytes / seconds;
}

async function addStandby(lab: Lab, body: ApplyRequest): Promise<void> {
  const agent = AgentClient.unix(lab.agentSocket("node-a"));
  for await (const line of agent.lines<StreamLine<ApplyResult>>("PUT", `/v1/applications/${body.name}`, { body })) {
    if ("error" in line) throw fromFailure(line.error);
    if ("result" in line && line.result.report.inSync.length === 0) throw new Error("The standby is not in sync");
  }
}
