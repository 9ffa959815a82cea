/** What this machine's kernel offers, found by trying it, and what that means for Understudy. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readSync, rmdirSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { dirname, join } from "node:path";
import { addon } from "./addon.ts";
import { loadTracingProgram } from "./bpf.ts";
import { Assembler } from "./bpf-assembler.ts";
import { readKernelTypes } from "./btf.ts";
import { SystemCallError } from "./errors.ts";
import { OperatingError } from "./failure.ts";
import { whyNotTraced } from "./file-systems.ts";
import { NR } from "./numbers.ts";
import { AF_INET, closeSocket, SOCK_STREAM, SOL_TCP, setOption, socket, TCP } from "./socket.ts";

/** x86-64 numbers; the probes use calls that nothing else here makes. */
const EEXIST = -17;
const PAGE_BYTES = 4096;

export interface HostFeature {
  /** Stable, kebab-case. */
  id: string;
  /** What the kernel offers, in words. */
  name: string;
  available: boolean;
  /** Why it is not available, or which kind is. */
  detail?: string;
  /** What Understudy uses it for. */
  mechanism: string;
  /** What follows for the user from its being there or not. */
  meaning: string;
  /** Nothing can be protected without it. */
  required: boolean;
}

export interface HostReport {
  kernel: string;
  architecture: string;
  /** Nothing required is missing. */
  ok: boolean;
  features: HostFeature[];
}

interface Probe extends Pick<HostFeature, "id" | "name" | "mechanism" | "required"> {
  /** Meaning when it is there, and when not. */
  means: [there: string, missing: string];
  /** Returns a detail or nothing; throws when the kernel does not offer it. */
  try(sleeper: number): string | undefined | Promise<string | undefined>;
}

const PROBES: Probe[] = [
  {
    id: "root",
    name: "root with its capabilities",
    mechanism: "everything below",
    required: true,
    means: ["namespaces, ptrace and packet queues may be used", "nothing can be protected: run as root"],
    try: probeCapabilities,
  },
  {
    id: "pagemap-scan",
    name: "PAGEMAP_SCAN (Linux 6.7)",
    mechanism: "which pages were written since the last checkpoint",
    required: true,
    means: ["a checkpoint's cost follows what changed", "no incremental checkpoints: needs Linux 6.7 or newer"],
    try: probePagemapScan,
  },
  {
    id: "userfaultfd-wp-async",
    name: "userfaultfd with asynchronous write-protect",
    mechanism: "dirty pages, tracked by the kernel without a fault handler",
    required: true,
    means: ["the application does not wait for the tracker", "no incremental checkpoints: needs Linux 6.7 or newer"],
    try: probeUserfaultfd,
  },
  {
    id: "soft-dirty",
    name: "soft-dirty bits",
    mechanism: "not used where PAGEMAP_SCAN is",
    required: false,
    means: ["not needed", "not needed"],
    try: probeSoftDirty,
  },
  {
    id: "ptrace-seize",
    name: "ptrace SEIZE",
    mechanism: "barrier, registers, system calls in the application",
    required: true,
    means: ["programs are stopped and inspected as they are", "nothing can be stopped: see kernel.yama.ptrace_scope"],
    try: (sleeper) => attempt("ptrace(SEIZE)", NR.ptrace, 0x4206, sleeper, null, 0),
  },
  {
    id: "pidfd-getfd",
    name: "pidfd_getfd (Linux 5.6)",
    mechanism: "looking at the application's descriptors from outside",
    required: true,
    means: ["sockets and files are read without the application's help", "connections cannot be captured"],
    try: probePidfdGetfd,
  },
  {
    id: "kcmp",
    name: "kcmp",
    mechanism: "which processes share an open file",
    required: true,
    means: ["shared descriptors stay shared on the standby", "sharing of descriptors cannot be seen"],
    try: () => attempt("kcmp", NR.kcmp, process.pid, process.pid, 0, 0, 0),
  },
  {
    id: "clone3-set-tid",
    name: "clone3 with set_tid (Linux 5.5)",
    mechanism: "the same process and thread ids on the standby",
    required: true,
    means: ["programs keep their ids across a switch", "a clone cannot come to life"],
    try: probeSetTid,
  },
  {
    id: "time-namespace",
    name: "time namespaces (Linux 5.6)",
    mechanism: "clocks that go on after a switch",
    required: true,
    means: ["monotonic time never jumps for the application", "timers would jump at a switch"],
    try: () => inShell("unshare --time --fork true"),
  },
  {
    id: "tcp-repair",
    name: "TCP_REPAIR",
    mechanism: "moving established connections",
    required: true,
    means: ["clients stay connected across a switch", "connections would break at a switch"],
    try: probeTcpRepair,
  },
  {
    id: "nfqueue",
    name: "NFQUEUE with physdev match",
    mechanism: "holding output until the standbys are safe",
    required: true,
    means: ["nothing leaves before it is safe", "output cannot be held (xt_NFQUEUE, xt_physdev, nfnetlink_queue)"],
    try: probeQueue,
  },
  {
    id: "br-netfilter",
    name: "br_netfilter",
    mechanism: "sends the bridge's packets through the queue",
    required: true,
    means: ["applications sit on the node's bridge", "output on a bridge cannot be held: modprobe br_netfilter"],
    try: () => inShell("modprobe -q br_netfilter; unshare --net test -e /proc/sys/net/bridge/bridge-nf-call-iptables"),
  },
  {
    id: "veth-bridge",
    name: "network namespaces, veth, bridges",
    mechanism: "the application's own address; the lab",
    required: true,
    means: ["an application takes its address along", "applications cannot have an address of their own"],
    try: () =>
      inShell("unshare --net sh -c 'ip link add name us0 type veth peer name us1 && ip link add name us2 type bridge'"),
  },
  {
    id: "overlay",
    name: "overlay file system",
    mechanism: "an application's own view of the files; the lab",
    required: true,
    means: ["what an application writes is kept apart", "files cannot be kept apart"],
    try: probeOverlay,
  },
  {
    id: "cgroup2-kill",
    name: "cgroup2 with cgroup.kill (Linux 5.14)",
    mechanism: "ending an application as a whole; the lab's power-off",
    required: true,
    means: ["nothing of an ended application stays", "an application's end cannot be made sure"],
    try: () => probeCgroup("cgroup.kill"),
  },
  {
    id: "cgroup2-freeze",
    name: "cgroup2 freezer (Linux 5.2)",
    mechanism: "not used: ptrace alone stops sooner",
    required: false,
    means: ["not needed", "not needed"],
    try: () => probeCgroup("cgroup.freeze"),
  },
  {
    id: "bpf",
    name: "BPF programs",
    mechanism: "letting packets through or not at a switch",
    required: false,
    means: ["small programs decide in the kernel", "iptables rules instead: slower switches"],
    try: probeBpf,
  },
  {
    id: "file-log",
    name: "BPF programs at ext4's tracepoints (BTF)",
    mechanism: "which bytes of which files were written, told by the kernel",
    required: false,
    means: [
      "a checkpoint's files cost what changed in them, where the state directory is on ext4",
      "changed files are found by looking at all and comparing them",
    ],
    try: probeFileLog,
  },
];

/** Tries everything; a few dozen milliseconds. Leaves nothing behind. */
export async function probeHost(): Promise<HostReport> {
  const sleeper = spawn("sleep", ["5"], { stdio: "ignore" });
  try {
    await once(sleeper, "spawn");
    const features = await Promise.all(PROBES.map((probe) => look(probe, sleeper)));
    const ok = features.every((feature) => feature.available || !feature.required);
    return { kernel: release(), architecture: process.arch, ok, features };
  } finally {
    sleeper.kill("SIGKILL");
  }
}

async function look(probe: Probe, sleeper: ChildProcess): Promise<HostFeature> {
  const { id, name, mechanism, required, means } = probe;
  const feature = { id, name, mechanism, required };
  try {
    const detail = await probe.try(sleeper.pid!);
    return { ...feature, available: true, meaning: means[0], ...(detail === undefined ? {} : { detail }) };
  } catch (error) {
    return { ...feature, available: false, meaning: means[1], detail: (error as Error).message };
  }
}

/**
 * Passes when nothing required is missing.
 * @throws OperatingError `host-lacks`, one message that names all that is missing
 */
export function requireHost(report: HostReport): void {
  const missing = report.features.filter((feature) => feature.required && !feature.available);
  if (missing.length === 0) return;
  const root = missing.find((feature) => feature.id === "root");
  // Without root most probes fail for that reason alone.
  const names = (root ? [root] : missing).map(({ name, detail }) => `${name} (${detail})`).join("; ");
  throw new OperatingError(
    "host-lacks",
    `This machine (Linux ${report.kernel}) lacks what Understudy needs: ${names}`,
    {
      remedy: root ? "Run it as root." : '"understudy check" shows what each is for.',
      details: { missing: missing.map(({ id }) => id) },
    },
  );
}

function attempt(what: string, number: number, ...args: (number | null | Buffer)[]): undefined {
  const result = addon.syscall(number, ...args);
  if (result < 0) throw new SystemCallError(what, result);
  return undefined;
}

/** Capability numbers of linux/capability.h. */
const CAPABILITIES = { NET_ADMIN: 12, NET_RAW: 13, SYS_PTRACE: 19, SYS_ADMIN: 21, SYS_TIME: 25, SYS_RESOURCE: 24 };
/** Without these two some programs cannot be restored exactly; most can. */
const OPTIONAL_CAPABILITIES = new Set(["SYS_RESOURCE", "SYS_TIME"]);

function probeCapabilities(): string | undefined {
  if (process.getuid?.() !== 0) throw new Error(`user id ${process.getuid?.()}`);
  const effective = BigInt(`0x${/^CapEff:\s*(\w+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0"}`);
  const lacking = Object.entries(CAPABILITIES).flatMap(([name, bit]) =>
    effective & (1n << BigInt(bit)) ? [] : [name],
  );
  const needed = lacking.filter((name) => !OPTIONAL_CAPABILITIES.has(name));
  if (needed.length > 0) throw new Error(`without CAP_${needed.join(", CAP_")}`);
  return lacking.length === 0 ? undefined : `without CAP_${lacking.join(", CAP_")}: hard limits cannot be raised`;
}

/** A scan of no page at all: the kernel checks everything else first. */
function probePagemapScan(): undefined {
  const PAGEMAP_SCAN = 0xc0606610;
  const argument = Buffer.alloc(96);
  argument.writeBigUInt64LE(96n, 0);
  const fd = openSync("/proc/self/pagemap", "r");
  try {
    return attempt("ioctl(PAGEMAP_SCAN)", NR.ioctl, fd, PAGEMAP_SCAN, argument);
  } finally {
    closeSync(fd);
  }
}

function probeUserfaultfd(): undefined {
  const UFFDIO_API = 0xc018aa3f;
  const FEATURES = (1n << 15n) | (1n << 13n); // WP_ASYNC, WP_UNPOPULATED
  const fd = addon.syscall(NR.userfaultfd, 0o2000000);
  if (fd < 0) throw new SystemCallError("userfaultfd", fd);
  const argument = Buffer.alloc(24);
  argument.writeBigUInt64LE(0xaan, 0);
  argument.writeBigUInt64LE(FEATURES, 8);
  try {
    return attempt("ioctl(UFFDIO_API)", NR.ioctl, fd, UFFDIO_API, argument);
  } finally {
    addon.syscall(NR.close, fd);
  }
}

/** A page that has just been written has bit 55 in its pagemap entry, if the kernel keeps such bits at all. */
function probeSoftDirty(): undefined {
  const memory = Buffer.alloc(2 * PAGE_BYTES, 1);
  const entry = Buffer.alloc(8);
  const fd = openSync("/proc/self/pagemap", "r");
  try {
    readSync(fd, entry, 0, 8, (Math.floor(addon.addressOf(memory) / PAGE_BYTES) + 1) * 8);
  } finally {
    closeSync(fd);
  }
  if ((entry.readBigUInt64LE() & (1n << 55n)) === 0n) throw new Error("the kernel has no CONFIG_MEM_SOFT_DIRTY");
  return undefined;
}

function probePidfdGetfd(sleeper: number): undefined {
  const pidfd = addon.syscall(NR.pidfd_open, sleeper, 0);
  if (pidfd < 0) throw new SystemCallError("pidfd_open", pidfd);
  const fd = addon.syscall(NR.pidfd_getfd, pidfd, 0, 0);
  addon.syscall(NR.close, pidfd);
  if (fd < 0) throw new SystemCallError("pidfd_getfd", fd);
  addon.syscall(NR.close, fd);
  return undefined;
}

/** Asks for an id that is taken: a kernel that knows the argument, and lets us, says so, and makes no process. */
function probeSetTid(): undefined {
  const taken = Buffer.alloc(4);
  taken.writeInt32LE(1);
  const argument = Buffer.alloc(88);
  argument.writeBigUInt64LE(17n, 32); // exit_signal: SIGCHLD
  argument.writeBigUInt64LE(BigInt(addon.addressOf(taken)), 64);
  argument.writeBigUInt64LE(1n, 72);
  const result = addon.syscall(NR.clone3, argument, argument.length);
  if (result !== EEXIST) throw new SystemCallError("clone3", result);
  return undefined;
}

function probeTcpRepair(): undefined {
  const fd = socket(AF_INET, SOCK_STREAM);
  const result = setOption(fd, SOL_TCP, TCP.repair, 1);
  closeSocket(fd);
  if (result < 0) throw new SystemCallError("setsockopt(TCP_REPAIR)", result);
  return undefined;
}

/** Both flavours of iptables end in the same target; a kernel may lack the base of one of them. */
async function probeQueue(): Promise<string> {
  const rule = "-A FORWARD -m physdev --physdev-is-bridged -j NFQUEUE --queue-num 1";
  const flavours = ["iptables-legacy", "iptables-nft"];
  const tried = await Promise.allSettled(
    flavours.map((name) => inShell(`XTABLES_LOCKFILE=/dev/null unshare --net ${name} ${rule}`)),
  );
  const working = flavours.filter((_, index) => tried[index]?.status === "fulfilled");
  if (working.length === 0) throw (tried[0] as PromiseRejectedResult).reason;
  return `by ${working.join(" and ")}`;
}

function probeOverlay(): Promise<undefined> {
  const layers = "mount -t tmpfs t /mnt && mkdir /mnt/l /mnt/u /mnt/w /mnt/m";
  const overlay = "mount -t overlay o -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w /mnt/m";
  return inShell(`unshare --mount --propagation private sh -c '${layers} && ${overlay}'`);
}

function probeCgroup(file: string): undefined {
  const mount = readFileSync("/proc/self/mountinfo", "utf8").match(/^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 /m)?.[1];
  if (mount === undefined) throw new Error("no cgroup2 file system is mounted");
  const group = join(mount, `understudy-probe-${process.pid}-${file}`);
  mkdirSync(group);
  try {
    writeFileSync(join(group, file), file === "cgroup.kill" ? "1" : "0");
  } finally {
    rmdirSync(group);
  }
  return undefined;
}

/** `r0 = 0; exit` as a traffic classifier. */
function probeBpf(): undefined {
  const instructions = Buffer.from("b700000000000000" + "9500000000000000", "hex");
  const licence = Buffer.from("GPL\0");
  const attributes = Buffer.alloc(144);
  attributes.writeUInt32LE(3, 0); // BPF_PROG_TYPE_SCHED_CLS
  attributes.writeUInt32LE(2, 4);
  attributes.writeBigUInt64LE(BigInt(addon.addressOf(instructions)), 8);
  attributes.writeBigUInt64LE(BigInt(addon.addressOf(licence)), 16);
  const fd = addon.syscall(NR.bpf, 5, attributes, attributes.length);
  if (fd < 0) throw new SystemCallError("bpf(PROG_LOAD)", fd);
  addon.syscall(NR.close, fd);
  return undefined;
}

/** The agents' usual place, or where it would come to be. */
function stateDirectory(): string {
  for (let directory = "/var/lib/understudy"; ; directory = dirname(directory))
    if (existsSync(directory)) return directory;
}

/** A program that does nothing, at the tracepoint that matters most. */
function probeFileLog(): undefined {
  const reason = whyNotTraced(stateDirectory());
  if (reason !== undefined) throw new Error(reason);
  const tracepoint = "ext4_da_write_end";
  const id = readKernelTypes([tracepoint], []).tracepoints.get(tracepoint);
  if (id === undefined) throw new Error(`the kernel has no tracepoint ${tracepoint}`);
  const fd = loadTracingProgram("us_probe", new Assembler().exit().finish(), id);
  addon.syscall(NR.close, fd);
  return undefined;
}

/** A probe that must not happen in this process, for instance because it changes namespaces. */
async function inShell(script: string): Promise<undefined> {
  const child = spawn("sh", ["-c", script], { stdio: ["ignore", "ignore", "pipe"] });
  let complaint = "";
  child.stderr.on("data", (data: Buffer) => {
    complaint += data.toString();
  });
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(complaint.trim().split("\n").at(-1) || `exit code ${code}`);
  return undefined;
}
