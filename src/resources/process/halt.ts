/** Processes that a signal has stopped (SIGSTOP, SIGTSTP and others), until a SIGCONT comes: job control. */
import { call } from "../../kernel/calls.ts";
import { SystemCallError } from "../../kernel/errors.ts";
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { KernelMemory } from "../../kernel/kernel-memory.ts";
import { SIGNAL } from "../../kernel/numbers.ts";
import { ALL_SIGNALS, parseStatus, resume, setSignalMask, waitFor } from "../../kernel/trace.ts";

const FIELDS = new KernelFields("task_struct.signal", "signal_struct.group_exit_code");

/**
 * Whether the parent has collected the stop with wait(2), as shells do at once: so it is taken where the kernel's memory cannot be
 * read. The process is traced and stands still.
 */
export function isHaltTold(pid: number): boolean {
  const memory = KernelMemory.tryOpen();
  const task = memory?.task(pid);
  if (memory === undefined || !task) return true;
  const signals = memory.pointer(task + FIELDS.offset("task_struct.signal"));
  return memory.read(signals + FIELDS.offset("signal_struct.group_exit_code"), 4).readInt32LE() === 0;
}

/**
 * Stops a clone's process as its application had it. All its threads stand in a stop, their registers set; they stand in another one
 * afterwards, and have not run. The parent is sent SIGCHLD. @param masks signal masks of the threads
 */
export function halt(pid: number, masks: ReadonlyMap<number, Buffer>): void {
  const [first, ...others] = [...masks.keys()];
  // Nothing that waits for it may come first.
  for (const tid of masks.keys()) setSignalMask(tid, ALL_SIGNALS);
  call("tgkill", pid, first!, SIGNAL.stop);
  resume(first!);
  expect(first!, "signal");
  resume(first!, SIGNAL.stop);
  expect(first!, "event");
  // They find out that all are to stop before they go back to the program.
  for (const tid of others) resume(tid);
  for (const tid of others) expect(tid, "event");
  for (const [tid, mask] of masks) setSignalMask(tid, mask);
}

function expect(tid: number, kind: "signal" | "event"): void {
  const status = waitFor(tid);
  const stop = parseStatus(status);
  if (stop.kind === kind && stop.signal === SIGNAL.stop) return;
  throw new SystemCallError("stop of a clone's process", -4, `unexpected stop ${status} of ${tid}`);
}
