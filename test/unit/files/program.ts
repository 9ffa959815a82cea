/** What a random program does to its files: plain data, so that a failing sequence can be shrunk and repeated. */
import { hash } from "node:crypto";
import * as fs from "node:fs";
import fc from "fast-check";
import { addressOf, call } from "../../../src/kernel/calls.ts";
import {
  getExtended,
  listExtended,
  O_RDWR,
  openBelow,
  rawPath,
  removeExtended,
  setExtended,
} from "../../../src/kernel/files.ts";

/** Names that the lower layer has, that it has not, that only the standby's lower layer has, and one that is not UTF-8. */
const NAMES = ["a", "b", "low", "sub", "extra", "\xff\xfe", "n".repeat(255)];
const path = fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
const place = fc.oneof(fc.nat(300), fc.nat(20_000), fc.nat(3_000_000));
const length = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 30_000 }));

export type Step =
  | { do: "write"; path: string; at: number; length: number; fill: number }
  | { do: "append"; path: string; length: number; fill: number }
  | { do: "truncate"; path: string; size: number }
  | { do: "punch"; path: string; at: number; length: number }
  | { do: "writeKeepingTimes"; path: string; at: number; fill: number }
  | { do: "collapse"; path: string; blocks: number }
  | { do: "mkdir" | "remove" | "fifo" | "device"; path: string }
  | { do: "rename" | "exchange" | "link"; from: string; to: string }
  | { do: "symlink"; path: string; to: string }
  | { do: "chmod"; path: string; mode: number }
  | { do: "chown"; path: string; uid: number; gid: number }
  | { do: "times"; path: string; seconds: number }
  | { do: "setExtended"; path: string; name: string; value: string }
  | { do: "removeExtended"; path: string; name: string }
  | { do: "many"; path: string; count: number }
  | { do: "copyRange" | "sendfile" | "splice"; from: string; to: string; at: number; length: number }
  | { do: "direct"; path: string; block: number; fill: number }
  | { do: "mapped"; path: string; at: number; length: number; fill: number }
  | { do: "preDump" | "cut" | "newcomer" };

const attribute = fc.constantFrom("user.a", "user.b", "trusted.c");

export const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constant("write" as const), path, at: place, length, fill: fc.nat(255) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("append" as const), path, length, fill: fc.nat(255) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("truncate" as const), path, size: place }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("punch" as const), path, at: place, length }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("writeKeepingTimes" as const), path, at: place, fill: fc.nat(255) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("collapse" as const), path, blocks: fc.integer({ min: 1, max: 3 }) }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("mkdir" as const), path }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("remove" as const), path }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("fifo" as const, "device" as const), path }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("rename" as const), from: path, to: path }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("exchange" as const), from: path, to: path }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("link" as const), from: path, to: path }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("symlink" as const), path, to: path }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("chmod" as const), path, mode: fc.nat(0o7777) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("chown" as const), path, uid: fc.nat(70_000), gid: fc.nat(70_000) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("times" as const),
      path,
      seconds: fc.integer({ min: -1000, max: 2 ** 31 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("setExtended" as const),
      path,
      name: attribute,
      value: fc.string({ maxLength: 20 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("removeExtended" as const), path, name: attribute }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("many" as const), path, count: fc.integer({ min: 2, max: 40 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom("copyRange" as const, "sendfile" as const, "splice" as const),
      from: path,
      to: path,
      at: place,
      length,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("direct" as const), path, block: fc.nat(200), fill: fc.nat(255) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("mapped" as const), path, at: place, length, fill: fc.nat(255) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom("preDump" as const, "cut" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("newcomer" as const) }) },
);

export type FileStep = Exclude<Step, { do: "preDump" | "cut" | "newcomer" }>;

export const isFileStep = (step: Step): step is FileStep =>
  step.do !== "preDump" && step.do !== "cut" && step.do !== "newcomer";

const buffer = (root: string, path: string) => Buffer.from(`${root}/${path}`, "latin1");

/** Does one step; what the kernel refuses does not happen. */
export function perform(root: string, rootFd: number, step: FileStep): void {
  try {
    performOrThrow(root, rootFd, step);
  } catch (error) {
    const { code, name } = error as { code?: string; name: string };
    if (name !== "SystemCallError" && (code === undefined || code.startsWith("ERR_"))) throw error;
  }
}

function onFile(rootFd: number, path: string, body: (fd: number) => void): void {
  const fd = openBelow(rootFd, path, O_RDWR | 0o4000 | 0o400000);
  try {
    if (fs.fstatSync(fd).isFile()) body(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** Into this process's memory at that address. */
export function writeMemory(address: number, bytes: Buffer): void {
  const vector = (at: number) => {
    const iov = Buffer.alloc(16);
    iov.writeBigUInt64LE(BigInt(at), 0);
    iov.writeBigUInt64LE(BigInt(bytes.length), 8);
    return iov;
  };
  call("process_vm_writev", process.pid, vector(addressOf(bytes)), 1, vector(address), 1, 0);
}

function performOrThrow(root: string, rootFd: number, step: FileStep): void {
  switch (step.do) {
    case "write":
    case "append": {
      const at = buffer(root, step.path);
      // Not through a link: it might lead out of the test's tree.
      const flags = fs.constants.O_CREAT | fs.constants.O_RDWR | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK;
      const fd = fs.openSync(at, flags | (step.do === "append" ? fs.constants.O_APPEND : 0));
      try {
        if (!fs.fstatSync(fd).isFile()) return;
        const bytes = Buffer.alloc(step.length, step.fill);
        fs.writeSync(fd, bytes, 0, bytes.length, step.do === "write" ? step.at : null);
      } finally {
        fs.closeSync(fd);
      }
      return;
    }
    case "truncate":
      onFile(rootFd, step.path, (fd) => fs.ftruncateSync(fd, step.size));
      return;
    case "punch":
      onFile(rootFd, step.path, (fd) => call("fallocate", fd, 3, step.at, step.length));
      return;
    case "collapse":
      onFile(rootFd, step.path, (fd) => call("fallocate", fd, 8, 0, step.blocks * 4096));
      return;
    case "writeKeepingTimes":
      onFile(rootFd, step.path, (fd) => {
        const { atime, mtime, size } = fs.fstatSync(fd);
        if (size > step.at) fs.writeSync(fd, Buffer.from([step.fill]), 0, 1, step.at);
        fs.futimesSync(fd, atime, mtime);
      });
      return;
    case "mkdir":
      fs.mkdirSync(buffer(root, step.path));
      return;
    case "remove": {
      const at = buffer(root, step.path);
      // Node.js removes no tree whose names are not UTF-8.
      if (fs.lstatSync(at).isDirectory()) removeTree(at);
      else fs.unlinkSync(at);
      return;
    }
    case "fifo":
      call("mknodat", rootFd, rawPath(step.path), 0o010644, 0);
      return;
    case "device":
      call("mknodat", rootFd, rawPath(step.path), 0o020600, (1 << 8) | 3);
      return;
    case "rename":
      call("renameat", rootFd, rawPath(step.from), rootFd, rawPath(step.to));
      return;
    case "exchange":
      // RENAME_EXCHANGE
      call("renameat2", rootFd, rawPath(step.from), rootFd, rawPath(step.to), 2);
      return;
    case "link":
      call("linkat", rootFd, rawPath(step.from), rootFd, rawPath(step.to), 0);
      return;
    case "symlink":
      fs.symlinkSync(Buffer.from(step.to, "latin1"), buffer(root, step.path));
      return;
    case "chmod":
      if (!fs.lstatSync(buffer(root, step.path)).isSymbolicLink()) fs.chmodSync(buffer(root, step.path), step.mode);
      return;
    case "chown":
      fs.lchownSync(buffer(root, step.path), step.uid, step.gid);
      return;
    case "times":
      fs.lutimesSync(buffer(root, step.path), step.seconds, step.seconds + 0.123);
      return;
    case "setExtended":
      if (!fs.lstatSync(buffer(root, step.path)).isSymbolicLink())
        setExtended(`${root}/${step.path}`, step.name, Buffer.from(step.value));
      return;
    case "removeExtended":
      if (!fs.lstatSync(buffer(root, step.path)).isSymbolicLink()) removeExtended(`${root}/${step.path}`, step.name);
      return;
    case "copyRange":
    case "sendfile":
    case "splice":
      onFile(rootFd, step.from, (from) =>
        onFile(rootFd, step.to, (to) => copy(step.do, from, to, step.at, step.length)),
      );
      return;
    case "direct": {
      const fd = openBelow(rootFd, step.path, O_RDWR | O_DIRECT | 0o4000 | 0o400000);
      try {
        if (fs.fstatSync(fd).isFile()) fs.writeSync(fd, aligned.fill(step.fill), 0, aligned.length, step.block * 4096);
      } finally {
        fs.closeSync(fd);
      }
      return;
    }
    case "mapped":
      onFile(rootFd, step.path, (fd) => {
        const { size } = fs.fstatSync(fd);
        if (size <= step.at) return;
        const address = call("mmap", null, size, 3, 1, fd, 0);
        writeMemory(address + step.at, Buffer.alloc(Math.min(step.length, size - step.at), step.fill));
        call("munmap", address, size);
      });
      return;
    case "many":
      for (let i = 0; i < step.count; i++) fs.writeFileSync(buffer(root, `${step.path}/many-${i}`), `number ${i}`);
      return;
  }
}

const O_DIRECT = 0o40000;
const page = Buffer.allocUnsafeSlow(3 * 4096);
/** Two blocks that O_DIRECT takes. */
const aligned = page.subarray((4096 - (addressOf(page) % 4096)) % 4096).subarray(0, 8192);

/** From the file's beginning to `at`, without the bytes passing through the program. */
function copy(way: "copyRange" | "sendfile" | "splice", from: number, to: number, at: number, length: number): void {
  const offset = (value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(value));
    return bytes;
  };
  if (way === "copyRange") call("copy_file_range", from, offset(0), to, offset(at), length, 0);
  else if (way === "sendfile") {
    call("lseek", to, at, 0);
    call("sendfile", to, from, offset(0), length);
  } else {
    const ends = Buffer.alloc(8);
    call("pipe2", ends, 0o4000);
    const [reading, writing] = [ends.readInt32LE(0), ends.readInt32LE(4)];
    try {
      call("splice", from, offset(0), writing, null, length, 0);
      call("splice", reading, null, to, offset(at), length, 0);
    } finally {
      fs.closeSync(reading);
      fs.closeSync(writing);
    }
  }
}

function removeTree(at: Buffer): void {
  for (const name of fs.readdirSync(at, { encoding: "buffer" })) {
    const child = Buffer.concat([at, Buffer.from("/"), name]);
    if (fs.lstatSync(child).isDirectory()) removeTree(child);
    else fs.unlinkSync(child);
  }
  fs.rmdirSync(at);
}

/** Everything of a tree that must be alike on both sides, one line per name. */
export function describe(root: string): string[] {
  const lines: string[] = [];
  const links = new Map<bigint, string>();
  const visit = (path: string) => {
    const at = buffer(root, path);
    const s = fs.lstatSync(at, { bigint: true });
    const name = JSON.stringify(path);
    const base = `${name} mode ${s.mode.toString(8)} owner ${s.uid}:${s.gid} modified ${s.mtimeNs}`;
    const extended = s.isSymbolicLink()
      ? ""
      : listExtended(`${root}/${path}`)
          .filter((attribute) => !attribute.startsWith("trusted.overlay."))
          .sort()
          .map((attribute) => ` ${attribute}=${getExtended(`${root}/${path}`, attribute)?.toString("hex")}`)
          .join("");
    if (s.isDirectory()) {
      lines.push(base + extended);
      const names = fs.readdirSync(at, { encoding: "latin1" }).sort();
      for (const child of names) visit(path === "" ? child : `${path}/${child}`);
      return;
    }
    const first = links.get(s.ino) ?? path;
    if (s.nlink > 1n) links.set(s.ino, first);
    const what = s.isSymbolicLink()
      ? ` to ${fs.readlinkSync(at, { encoding: "latin1" })}`
      : s.isFile()
        ? ` ${s.size} bytes ${digest(at)}`
        : ` device ${s.rdev}`;
    lines.push(`${base}${extended} links ${s.nlink} same as ${JSON.stringify(first)}${what}`);
  };
  visit("");
  return lines;
}

function digest(at: Buffer): string {
  return cryptoHash(fs.readFileSync(at));
}

const cryptoHash = (bytes: Buffer) => hash("sha256", bytes, "hex").slice(0, 16);
