/** Seccomp filters that the application has put on itself, without the stage's own (the oldest, see native/init.c). */
import { tryCall } from "../../kernel/calls.ts";
import { checked } from "../../kernel/errors.ts";
import type { Remote } from "../../kernel/remote.ts";

const PTRACE_SECCOMP_GET_FILTER = 0x420c;
const STAGE_FILTERS = 1;
const INSTRUCTION_BYTES = 8;
const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_TSYNC = 1;
/** Ptrace option: calls made in a thread from outside are not the application's own, its filters must not judge them. */
export const SUSPEND_SECCOMP = 0x200000;

/** @param count as /proc/PID/status says */
export function ownFilters(count: number): number {
  return Math.max(0, count - STAGE_FILTERS);
}

/** Instructions of each, oldest first. The thread is stopped. */
export function readFilters(tid: number, count: number): Buffer[] {
  return Array.from({ length: ownFilters(count) }, (_, i) => {
    const index = STAGE_FILTERS + i;
    const length = tryCall("ptrace", PTRACE_SECCOMP_GET_FILTER, tid, index, null);
    const code = Buffer.alloc(checked(length, "ptrace(SECCOMP_GET_FILTER)", tid) * INSTRUCTION_BYTES);
    checked(tryCall("ptrace", PTRACE_SECCOMP_GET_FILTER, tid, index, code), "ptrace(SECCOMP_GET_FILTER)", tid);
    return code;
  });
}

/** Puts them on a thread of a clone, or on all of its process. It must have the rights of its init still, and filters be suspended. */
export function restoreFilters(remote: Remote, filters: Buffer[], onAll: boolean): void {
  for (const code of filters) {
    remote.reset();
    const program = Buffer.alloc(16);
    program.writeUInt16LE(code.length / INSTRUCTION_BYTES, 0);
    program.writeBigUInt64LE(BigInt(remote.put(code)), 8);
    remote.call("seccomp", SECCOMP_SET_MODE_FILTER, onAll ? SECCOMP_FILTER_FLAG_TSYNC : 0, remote.put(program));
  }
}
