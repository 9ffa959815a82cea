/** Why an open descriptor cannot be copied, told by what it is, with what can be done about it. */
import { OperatingError } from "../kernel/failure.ts";
import type { SocketType } from "./kinds.ts";

/** What looks absent to an application. */
export type Absent = "io_uring" | "io_setup";

interface Reason {
  what: string;
  remedy: string;
}

const byLink: Array<[pattern: RegExp, reason: Reason]> = [
  [
    /^anon_inode:\[io_uring\]/,
    {
      what: "an io_uring, whose requests under way are in the kernel alone",
      remedy: "Tell the program to do without io_uring.",
    },
  ],
  [
    /^anon_inode:\[userfaultfd\]/,
    { what: "a userfaultfd of its own", remedy: "Tell the program not to watch its own memory." },
  ],
  [
    /^anon_inode:\[(perf_event|bpf|fanotify|kvm)/,
    { what: "a handle on the kernel of this machine", remedy: "Run it without that." },
  ],
  [/^mnt:|^net:|^pid:|^user:|^ipc:|^uts:|^cgroup:|^time:/, { what: "a namespace", remedy: "Run it without that." }],
];

/** Of a program that wanted something which looks absent to it, and ended. @param how as in "exited with code 1" */
export function refuseAbsent(what: Absent, how: string): OperatingError {
  if (what === "io_uring")
    return new OperatingError(
      "unprotectable-io-uring",
      `The program asks for io_uring, whose requests under way are in the kernel alone, and ${how} without it`,
      { remedy: "Tell the program to do without io_uring." },
    );
  return new OperatingError(
    "unprotectable-aio",
    `The program asks for io_setup, whose requests write to memory unseen, and ${how} without it`,
    { remedy: "Tell the program to do without asynchronous I/O of the kernel." },
  );
}

const FAMILIES: Record<number, string> = { 1: "unix", 2: "IPv4", 10: "IPv6", 16: "netlink", 17: "packet", 40: "vsock" };
const TYPES: Record<number, string> = { 1: "stream", 2: "datagram", 3: "raw", 5: "seqpacket" };

function socketReason({ domain, type, protocol }: SocketType): Reason {
  const family = FAMILIES[domain] ?? `family ${domain}`;
  const what = `a socket of ${family} (${TYPES[type] ?? `type ${type}`}, protocol ${protocol})`;
  return { what, remedy: "Let it talk over TCP instead." };
}

const TYPE = 0o170000;
const CHARACTER = 0o020000;
const BLOCK = 0o060000;
/** Devices without state of their own: null, zero, full, random, urandom, as `rdev` has them. */
const HARMLESS_DEVICES = new Set([3, 5, 7, 8, 9].map((minor) => (1 << 8) | minor));

/** The refusal of a device that is not one of those which are alike everywhere; by its numbers, under whatever name. */
export function refuseDevice(path: string, { mode, rdev }: { mode: number; rdev: number }): OperatingError | undefined {
  const type = mode & TYPE;
  if (type !== BLOCK && (type !== CHARACTER || HARMLESS_DEVICES.has(rdev))) return undefined;
  return new OperatingError(
    "unprotectable-device",
    `The application has "${path}" open, a device with state outside the application`,
    { remedy: "Run it without that device.", details: { path } },
  );
}

/** The refusal of a socket with a filter that bpf(2) has loaded: the kernel has it translated already. */
export function refuseFilter({ fd, link, pid }: { fd: number; link: string; pid: number }): OperatingError {
  return new OperatingError(
    "unprotectable-socket-filter",
    `The application has a BPF program on the socket ${link} (descriptor ${fd}), which cannot be read back`,
    { remedy: "Let it use a classic filter (SO_ATTACH_FILTER), or none.", details: { fd, link, pid } },
  );
}

/** The refusal of a descriptor that no kind knows. */
export function refuseDescriptor(
  link: string,
  at: { fd: number; pid: number },
  socket: SocketType | undefined,
): OperatingError {
  const known = byLink.find(([pattern]) => pattern.test(link))?.[1];
  const reason = socket ? socketReason(socket) : known;
  const what = reason ? `${reason.what} open` : `${link} open`;
  return new OperatingError(
    "unprotectable-descriptor",
    `The application has ${what} (descriptor ${at.fd}), which cannot be copied`,
    { remedy: reason?.remedy ?? "Run it without that.", details: { link, ...at } },
  );
}
