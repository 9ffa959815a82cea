/** Loop devices: a file as a block device (loop(4)). They let go of it by themselves when nobody uses them any more. */
import { readdirSync, statSync } from "node:fs";
import { call, closeDescriptor, openPath, tryCall } from "./calls.ts";
import { checked } from "./errors.ts";
import { O_RDONLY, O_RDWR } from "./files.ts";

const LOOP_CTL_GET_FREE = 0x4c82;
const LOOP_CONFIGURE = 0x4c0a;
const LOOP_GET_STATUS64 = 0x4c05;
const AUTOCLEAR = 4;
const DIRECT_IO = 16;
/** struct loop_config: descriptor, block size, struct loop_info64, reserved. */
const CONFIG_BYTES = 304;
const INFO_BYTES = 232;
const INFO_AT = 8;
const FLAGS_AT = INFO_AT + 52;
const BLOCK_BYTES = 4096;
const EBUSY = -16;
const EINVAL = -22;
/** Between the question for a free one and its use another program may take it. */
const TRIES = 64;

/**
 * Without the page cache in between, where the file's file system can do so: what is written there would be kept in memory twice.
 * @returns its name, and a descriptor that keeps it until somebody else (a mount) does; the caller closes it
 */
export function attachLoop(file: string): { name: string; fd: number } {
  const backing = openPath(file, O_RDWR);
  const control = openPath("/dev/loop-control", O_RDWR);
  try {
    for (let i = 0; ; i++) {
      const name = `loop${call("ioctl", control, LOOP_CTL_GET_FREE, 0)}`;
      const fd = openPath(`/dev/${name}`, O_RDWR);
      let done = configure(fd, backing, AUTOCLEAR | DIRECT_IO);
      if (done === EINVAL) done = configure(fd, backing, AUTOCLEAR);
      if (done >= 0) return { name, fd };
      closeDescriptor(fd);
      if (done !== EBUSY || i === TRIES) checked(done, "ioctl LOOP_CONFIGURE", file);
    }
  } finally {
    closeDescriptor(control);
    closeDescriptor(backing);
  }
}

function configure(fd: number, backing: number, flags: number): number {
  const config = Buffer.alloc(CONFIG_BYTES);
  config.writeUInt32LE(backing, 0);
  config.writeUInt32LE(BLOCK_BYTES, 4);
  config.writeUInt32LE(flags, FLAGS_AT);
  return tryCall("ioctl", fd, LOOP_CONFIGURE, config);
}

/** Whether any loop device, mounted here or elsewhere, still stands for the file. */
export function isOnLoop(file: string): boolean {
  const { dev, ino } = statSync(file, { bigint: true });
  return readdirSync("/dev")
    .filter((name) => /^loop\d+$/.test(name))
    .some((name) => {
      const fd = tryCall("open", Buffer.from(`/dev/${name}\0`), O_RDONLY, 0);
      if (fd < 0) return false;
      const info = Buffer.alloc(INFO_BYTES);
      const done = tryCall("ioctl", fd, LOOP_GET_STATUS64, info);
      closeDescriptor(fd);
      return done >= 0 && info.readBigUInt64LE(0) === dev && info.readBigUInt64LE(8) === ino;
    });
}
