/** Tries of single mechanisms: each returns a detail or nothing, and throws when the kernel does not offer it. Nothing is left behind. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { addon } from "./addon.ts";
import { loadTracingProgram } from "./bpf.ts";
import { Assembler } from "./bpf-assembler.ts";
import { readKernelTypes } from "./btf.ts";
import { SystemCallError } from "./errors.ts";
import { whyNotTraced } from "./file-systems.ts";
import { freeHugePages, hugePageSizes, hugeSizeName } from "./huge-pages.ts";
import { NR } from "./numbers.ts";
import { AF_INET, closeSocket, SOCK_STREAM, SOL_TCP, setOption, socket, TCP } from "./socket.ts";

/** x86-64 numbers; the probes use calls that nothing else here makes. */
const EEXIST = -17;
const PAGE_BYTES = 4096;

export function attempt(what: string, number: number, ...args: (number | null | Buffer)[]): undefined {
  const result = addon.syscall(number, ...args);
  if (result < 0) throw new SystemCallError(what, result);
  return undefined;
}

/** Capability numbers of linux/capability.h. */
const CAPABILITIES = { NET_ADMIN: 12, NET_RAW: 13, SYS_PTRACE: 19, SYS_ADMIN: 21, SYS_TIME: 25, SYS_RESOURCE: 24 };
/** Without these two some programs cannot be restored exactly; most can. */
const OPTIONAL_CAPABILITIES = new Set(["SYS_RESOURCE", "SYS_TIME"]);

export function probeCapabilities(): string | undefined {
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
export function probePagemapScan(): undefined {
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

export function probeUserfaultfd(): undefined {
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
export function probeSoftDirty(): undefined {
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

/** "ospke" among the processor's flags: it has keys (pkeys(7)), and this kernel lets programs use them. */
export function probeNoKeys(): undefined {
  if (/^flags\s*:.*\bospke\b/m.test(readFileSync("/proc/cpuinfo", "latin1")))
    throw new Error("programs can put memory under a key");
  return undefined;
}

/** Sizes of which there are any, or may be made when they are needed. */
export function probeHugePages(): string {
  const sizes = hugePageSizes().flatMap((bytes) => {
    const { free, all, more } = freeHugePages(bytes);
    return all + more > 0 ? [`${free} of ${all + more} of ${hugeSizeName(bytes)} free`] : [];
  });
  if (sizes.length === 0) throw new Error("none");
  return sizes.join(", ");
}

export function probePidfdGetfd(sleeper: number): undefined {
  const pidfd = addon.syscall(NR.pidfd_open, sleeper, 0);
  if (pidfd < 0) throw new SystemCallError("pidfd_open", pidfd);
  const fd = addon.syscall(NR.pidfd_getfd, pidfd, 0, 0);
  addon.syscall(NR.close, pidfd);
  if (fd < 0) throw new SystemCallError("pidfd_getfd", fd);
  addon.syscall(NR.close, fd);
  return undefined;
}

/** Asks for an id that is taken: a kernel that knows the argument, and lets us, says so, and makes no process. */
export function probeSetTid(): undefined {
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

export function probeTcpRepair(): undefined {
  const fd = socket(AF_INET, SOCK_STREAM);
  const result = setOption(fd, SOL_TCP, TCP.repair, 1);
  closeSocket(fd);
  if (result < 0) throw new SystemCallError("setsockopt(TCP_REPAIR)", result);
  return undefined;
}

/** Both flavours of iptables end in the same target; a kernel may lack the base of one of them. */
export async function probeQueue(): Promise<string> {
  const rule = "-A FORWARD -m physdev --physdev-is-bridged -j NFQUEUE --queue-num 1";
  const flavours = ["iptables-legacy", "iptables-nft"];
  const tried = await Promise.allSettled(
    flavours.map((name) => inShell(`XTABLES_LOCKFILE=/dev/null unshare --net ${name} ${rule}`)),
  );
  const working = flavours.filter((_, index) => tried[index]?.status === "fulfilled");
  if (working.length === 0) throw (tried[0] as PromiseRejectedResult).reason;
  return `by ${working.join(" and ")}`;
}

export function probeOverlay(): Promise<undefined> {
  const layers = "mount -t tmpfs t /mnt && mkdir /mnt/l /mnt/u /mnt/w /mnt/m";
  const overlay = "mount -t overlay o -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w /mnt/m";
  return inShell(`unshare --mount --propagation private sh -c '${layers} && ${overlay}'`);
}

export function probeCgroup(file: string): undefined {
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
export function probeBpf(): undefined {
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
export function probeFileLog(): undefined {
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
export async function inShell(script: string): Promise<undefined> {
  const child = spawn("sh", ["-c", script], { stdio: ["ignore", "ignore", "pipe"] });
  let complaint = "";
  child.stderr.on("data", (data: Buffer) => {
    complaint += data.toString();
  });
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(complaint.trim().split("\n").at(-1) || `exit code ${code}`);
  return undefined;
}
