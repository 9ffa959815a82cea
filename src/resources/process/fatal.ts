/** Signals that wait and will end the process as soon as it runs: what is taken of it now dies at once wherever it comes to life. */
import { ACTION_BYTES } from "./inner.ts";

/** Those whose default is an end with a core, and SIGKILL: signal(7). Others that end a program are sent to it on purpose. */
const FATAL = new Set([3, 4, 5, 6, 7, 8, 9, 11, 24, 25, 31]);
const SIG_DFL = 0n;

/**
 * @param pending siginfos
 * @param actions struct kernel_sigaction of signals 1 … 64
 * @param blocked signal mask of the thread that they wait for
 */
export function fatalSignal(pending: readonly Buffer[], actions: Buffer, blocked: bigint): number | undefined {
  return pending
    .map((siginfo) => siginfo.readInt32LE(0))
    .find((signal) => {
      if (!FATAL.has(signal) || (blocked >> BigInt(signal - 1)) & 1n) return false;
      return actions.readBigUInt64LE((signal - 1) * ACTION_BYTES) === SIG_DFL;
    });
}
