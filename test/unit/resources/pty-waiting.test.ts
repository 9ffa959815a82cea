/** What waits at terminals is read from the kernel's memory only where something does. */
import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { call, closeDescriptor, openPath } from "../../../src/kernel/calls.ts";
import { SystemCallError } from "../../../src/kernel/errors.ts";
import { OperatingError } from "../../../src/kernel/failure.ts";
import { O_NOCTTY } from "../../../src/kernel/files.ts";
import { KernelMemory } from "../../../src/kernel/kernel-memory.ts";
import { O } from "../../../src/resources/kind.ts";
import { readTermios, setTermios } from "../../../src/resources/pty/queue.ts";
import { waitingAt } from "../../../src/resources/pty/waiting.ts";

const TIOCSPTLCK = 0x40045431;
const TIOCGPTN = 0x80045430;
const LOCAL_FLAGS_AT = 12;
const EFAULT = -14;
const canRead = KernelMemory.tryOpen() !== undefined;

function openBoth() {
  const master = openPath("/dev/ptmx", O.readWrite | O_NOCTTY);
  const value = Buffer.alloc(4);
  call("ioctl", master, TIOCSPTLCK, value);
  call("ioctl", master, TIOCGPTN, value);
  const slave = openPath(`/dev/pts/${value.readInt32LE()}`, O.readWrite | O_NOCTTY);
  const close = () => [master, slave].forEach(closeDescriptor);
  return { master, slave, [Symbol.dispose]: close };
}

function makeRaw(slave: number): void {
  const termios = readTermios(slave);
  termios.writeUInt32LE(0, LOCAL_FLAGS_AT);
  setTermios(slave, termios);
}

const write = (fd: number, text: string) => call("write", fd, Buffer.from(text), text.length);
const textOf = (fd: number, side: "master" | "slave") => waitingAt(fd, side)?.arrived.toString();

test("a side at which nothing waits is not looked at; a line that was begun is seen", { skip: !canRead }, () => {
  using terminal = openBoth();
  const { master, slave } = terminal;
  const reads = mock.method(KernelMemory.prototype, "read");
  try {
    assert.equal(textOf(master, "master"), "");
    makeRaw(slave);
    assert.equal(textOf(slave, "slave"), "");
    assert.equal(reads.mock.callCount(), 0);
    write(slave, "printed");
    assert.equal(textOf(master, "master"), "printed");
    write(master, "typed");
    assert.equal(textOf(slave, "slave"), "typed");
  } finally {
    reads.mock.restore();
  }
  using other = openBoth();
  write(other.master, "begun");
  assert.equal(textOf(other.slave, "slave"), "begun");
});

test("what leads nowhere while it is read is looked at again", { skip: !canRead }, () => {
  using terminal = openBoth();
  const { master, slave } = terminal;
  makeRaw(slave);
  write(master, "typed");
  const read = KernelMemory.prototype.read;
  let failures = 3;
  const reads = mock.method(KernelMemory.prototype, "read", function (this: KernelMemory, at: bigint, length: number) {
    // Of the line discipline's own struct.
    if (length > 4096 && failures-- > 0) throw new SystemCallError("read", EFAULT);
    return read.call(this, at, length);
  });
  try {
    assert.equal(textOf(slave, "slave"), "typed");
    failures = Number.POSITIVE_INFINITY;
    assert.throws(
      () => waitingAt(slave, "slave"),
      (error) => error instanceof OperatingError && error.code === "unprotectable-terminal",
    );
  } finally {
    reads.mock.restore();
  }
});
