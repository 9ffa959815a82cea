/** An advisory lock on a path, held by an open file: the kernel releases it when its holder dies (flock(2)). */
import { closeSync, fstatSync, openSync, statSync, unlinkSync } from "node:fs";
import { tryCall } from "./calls.ts";
import { SystemCallError } from "./errors.ts";
import { ERRNO } from "./numbers.ts";

const LOCK_EXCLUSIVE_NONBLOCKING = 2 | 4;

/**
 * Takes the lock, or returns undefined when somebody holds it. Disposing removes the file and releases the lock.
 * @throws SystemCallError, and what node:fs throws when the file cannot be made
 */
export function tryLock(path: string): Disposable | undefined {
  const fd = openSync(path, "w", 0o600);
  const result = tryCall("flock", fd, LOCK_EXCLUSIVE_NONBLOCKING);
  if (result < 0) {
    closeSync(fd);
    if (result === ERRNO.again) return undefined;
    throw new SystemCallError("flock", result, path);
  }
  // The holder before may have removed the file between our open and our lock: then this lock is on nothing.
  if (statSync(path, { throwIfNoEntry: false })?.ino !== fstatSync(fd).ino) {
    closeSync(fd);
    return undefined;
  }
  return {
    [Symbol.dispose]() {
      unlinkSync(path);
      closeSync(fd);
    },
  };
}
