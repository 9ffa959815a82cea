/** What /proc says of a process, parsed. Formats: proc(5). */
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { addon } from "./addon.ts";
import { checked } from "./errors.ts";
import { NR } from "./numbers.ts";

const O_RDONLY_CLOEXEC = 0o2000000;
let smallFile = Buffer.alloc(65536);

/** Content of a small file under /proc, by three plain system calls: much cheaper than `readFileSync` inside a stop. */
export function readSmall(path: string): string {
  const fd = checked(addon.syscall(NR.open, Buffer.from(`${path}\0`), O_RDONLY_CLOEXEC, 0), "open", path);
  let length = 0;
  for (;;) {
    const n = addon.syscall(NR.read, fd, smallFile.subarray(length), smallFile.length - length);
    if (n <= 0) {
      addon.syscall(NR.close, fd);
      checked(n, "read", path);
      return smallFile.toString("latin1", 0, length);
    }
    length += n;
    // Some are not small at all: what an epoll instance watches, a line each. To an empty buffer the kernel says that this was the end.
    if (length === smallFile.length) smallFile = Buffer.concat([smallFile, Buffer.alloc(length)]);
  }
}

/** One line of /proc/PID/maps. */
export interface MapsEntry {
  start: number;
  end: number;
  /** PROT_* bits */
  protection: number;
  shared: boolean;
  offset: number;
  device: string;
  inode: number;
  /** `device:inode`, exact however large that is. */
  id: string;
  path: string;
}

const MAPS_LINE = /^([0-9a-f]+)-([0-9a-f]+) (.)(.)(.)(.) ([0-9a-f]+) ([0-9a-f:]+) (\d+) *(.*)$/;

/** Octal escapes of newline and the like in names (\012). */
function unescapeOctal(name: string): string {
  return name.includes("\\")
    ? name.replace(/\\([0-7]{3})/g, (_, o) => String.fromCharCode(Number.parseInt(o, 8)))
    : name;
}

export function parseMaps(text: string): MapsEntry[] {
  const entries: MapsEntry[] = [];
  for (const line of text.split("\n")) {
    const m = MAPS_LINE.exec(line);
    if (!m) continue;
    entries.push({
      start: Number.parseInt(m[1]!, 16),
      end: Number.parseInt(m[2]!, 16),
      protection: (m[3] === "r" ? 1 : 0) | (m[4] === "w" ? 2 : 0) | (m[5] === "x" ? 4 : 0),
      shared: m[6] === "s",
      offset: Number.parseInt(m[7]!, 16),
      device: m[8]!,
      inode: Number(m[9]),
      id: `${m[8]}:${m[9]}`,
      path: unescapeOctal(m[10]!),
    });
  }
  return entries;
}

export function threadIds(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).map(Number);
}

/** Value of a field of /proc/PID/status, trimmed. */
export function statusField(text: string, field: string): string {
  return fieldOf(text, field);
}

/** The rest of the line that begins with "field:". */
function fieldOf(text: string, field: string): string {
  const name = `${field}:`;
  let at = text.startsWith(name) ? 0 : text.indexOf(`\n${name}`);
  if (at < 0) return "";
  at += name.length + (at === 0 && text.startsWith(name) ? 0 : 1);
  const end = text.indexOf("\n", at);
  return text.slice(at, end < 0 ? undefined : end).trim();
}

export function readStatus(pid: number): string {
  return readSmall(`/proc/${pid}/status`);
}

/** The pid in the innermost namespace of the thread. */
export function virtualPid(status: string): number {
  return Number(statusField(status, "NSpid").split(/\s+/).at(-1));
}

/** Fields of /proc/PID/stat from the third on (index 0 is the state), so names with spaces do no harm. */
export function statFields(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, "latin1");
  return text.slice(text.lastIndexOf(")") + 2).split(" ");
}

/** The parent, as this program sees it; whoever traces the process. */
export function parentOf(pid: number): number {
  return Number(statFields(pid)[1]);
}

/** Start of the process in clock ticks since boot: with the pid, an identity. */
export function startTime(pid: number): number {
  return Number(statFields(pid)[19]);
}

/** Fields 26 and on that PR_SET_MM_MAP wants back, by name. */
export interface MemoryMarks {
  startCode: number;
  endCode: number;
  startData: number;
  endData: number;
  startBrk: number;
  startStack: number;
  argStart: number;
  argEnd: number;
  envStart: number;
  envEnd: number;
}

export function memoryMarks(pid: number): MemoryMarks {
  const f = statFields(pid);
  const at = (field: number) => Number(f[field - 3]);
  return {
    startCode: at(26),
    endCode: at(27),
    startStack: at(28),
    startData: at(45),
    endData: at(46),
    startBrk: at(47),
    argStart: at(48),
    argEnd: at(49),
    envStart: at(50),
    envEnd: at(51),
  };
}

/** Number of an open descriptor and what its link says. */
export interface DescriptorLink {
  fd: number;
  link: string;
}

export function descriptorLinks(pid: number): DescriptorLink[] {
  const links: DescriptorLink[] = [];
  for (const name of readdirSync(`/proc/${pid}/fd`)) {
    try {
      links.push({ fd: Number(name), link: readlinkSync(`/proc/${pid}/fd/${name}`) });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  return links.sort((a, b) => a.fd - b.fd);
}

/** /proc/PID/fdinfo/FD as text. */
export function descriptorInfo(pid: number, fd: number): string {
  return readSmall(`/proc/${pid}/fdinfo/${fd}`);
}

/** Value of a field of fdinfo. */
export function infoField(info: string, field: string): string {
  return fieldOf(info, field);
}

/**
 * Priority of a process's session as a whole. Where the kernel shares the processor by sessions (sched_autogroup), a process's
 * own priority counts only within its own.
 */
export function setSessionNice(pid: number | "self", nice: number): void {
  try {
    writeFileSync(`/proc/${pid}/autogroup`, String(nice));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

/** Where something is mounted, from the text of proc_pid_mountinfo(5), in which some characters stand as octal numbers. */
export function mountPoints(mountinfo: string): string[] {
  const points = mountinfo
    .trimEnd()
    .split("\n")
    .map((line) => line.split(" ")[4]!);
  return points.map((point) =>
    point.replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8))),
  );
}
