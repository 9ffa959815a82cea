/** What is tried of the kernel, what each is for, and what follows from its being there or not. */
import type { HostFeature } from "./host.ts";
import { NR } from "./numbers.ts";
import {
  attempt,
  inShell,
  probeBpf,
  probeCapabilities,
  probeCgroup,
  probeFileLog,
  probeNoKeys,
  probeOverlay,
  probePagemapScan,
  probePidfdGetfd,
  probeQueue,
  probeSetTid,
  probeSoftDirty,
  probeTcpRepair,
  probeUserfaultfd,
} from "./probe.ts";

export interface Probe extends Pick<HostFeature, "id" | "name" | "mechanism" | "required"> {
  /** Meaning when it is there, and when not. */
  means: [there: string, missing: string];
  /** Returns a detail or nothing; throws when the kernel does not offer it. */
  try(sleeper: number): string | undefined | Promise<string | undefined>;
}

export const PROBES: readonly Probe[] = [
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
    id: "no-protection-keys",
    name: "a processor without memory protection keys",
    mechanism: "memory under a key (pkey_mprotect) is refused by name",
    required: false,
    means: [
      "no program can have memory that is refused for its key",
      "a program that puts memory under a key cannot be protected; others can",
    ],
    try: probeNoKeys,
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
