/**
 * What few threads ever set for themselves: where their memory comes from (set_mempolicy(2)), how urgent what they read and write is
 * (ioprio_set(2)), what memory errors mean to them, whether they may read the time stamp counter and ask for the processor's features
 * (prctl(2), arch_prctl(2)).
 */
import { tryCall } from "../../kernel/calls.ts";
import type { Remote, RemoteCall } from "../../kernel/remote.ts";

const PR_GET_TSC = 25;
const PR_SET_TSC = 26;
const PR_MCE_KILL = 33;
const PR_MCE_KILL_SET = 1;
const PR_MCE_KILL_GET = 34;
const ARCH_GET_CPUID = 0x1011;
const ARCH_SET_CPUID = 0x1012;
const IOPRIO_WHO_PROCESS = 1;
/** What a thread has that has set nothing. */
const DEFAULT = { machineChecks: 2, timestampCounter: 1, processorFeatures: 1, policy: 0 } as const;
const MASK_BYTES = 128;
const POLICY_AT = 0;
const COUNTER_AT = 4;
const MASK_AT = 8;

export interface ThreadSettings {
  /** Mode of its memory policy, with flags. */
  policy: number;
  /** Nodes of the policy, a bit each; without trailing zeros. */
  nodes: Buffer;
  /** PR_MCE_KILL_LATE, _EARLY or _DEFAULT. */
  machineChecks: number;
  /** PR_TSC_ENABLE or PR_TSC_SIGSEGV. */
  timestampCounter: number;
  /** 0: it is sent SIGSEGV when it asks. */
  processorFeatures: number;
}

/** `remote` has begun in the thread and has a scratch mapping. */
export function readSettings(remote: Remote): ThreadSettings {
  const at = remote.put(Buffer.alloc(MASK_AT + MASK_BYTES));
  // Neither a kernel for one node nor every processor has all of it.
  remote.tryCall("get_mempolicy", at + POLICY_AT, at + MASK_AT, 8 * MASK_BYTES, 0, 0);
  remote.tryCall("prctl", PR_GET_TSC, at + COUNTER_AT);
  const machineChecks = remote.tryCall("prctl", PR_MCE_KILL_GET, 0, 0, 0, 0);
  const processorFeatures = remote.tryCall("arch_prctl", ARCH_GET_CPUID, 0);
  const found = remote.read(at, MASK_AT + MASK_BYTES);
  const mask = found.subarray(MASK_AT);
  return {
    policy: found.readInt32LE(POLICY_AT),
    nodes: Buffer.from(mask.subarray(0, mask.findLastIndex((byte) => byte !== 0) + 1)),
    machineChecks: machineChecks < 0 ? DEFAULT.machineChecks : machineChecks,
    timestampCounter: found.readInt32LE(COUNTER_AT) || DEFAULT.timestampCounter,
    processorFeatures: processorFeatures < 0 ? DEFAULT.processorFeatures : processorFeatures,
  };
}

/** Of any thread, without its help. */
export function readIoPriority(tid: number): number {
  return Math.max(0, tryCall("ioprio_get", IOPRIO_WHO_PROCESS, tid));
}

/** Calls in a clone's thread. Where this node lacks the nodes or the processor cannot, the thread goes on without. */
export function restoreSettings(remote: Remote, settings: ThreadSettings): RemoteCall[] {
  const { policy, nodes, machineChecks, timestampCounter, processorFeatures } = settings;
  const calls: RemoteCall[] = [];
  if (policy !== DEFAULT.policy) {
    const mask = Buffer.alloc(MASK_BYTES);
    nodes.copy(mask);
    calls.push([
      "set_mempolicy",
      policy,
      nodes.length > 0 ? remote.put(mask) : 0,
      nodes.length > 0 ? 8 * MASK_BYTES : 0,
    ]);
  }
  if (machineChecks !== DEFAULT.machineChecks) calls.push(["prctl", PR_MCE_KILL, PR_MCE_KILL_SET, machineChecks, 0, 0]);
  if (timestampCounter !== DEFAULT.timestampCounter) calls.push(["prctl", PR_SET_TSC, timestampCounter]);
  if (processorFeatures !== DEFAULT.processorFeatures) calls.push(["arch_prctl", ARCH_SET_CPUID, processorFeatures]);
  return calls;
}

export function restoreIoPriority(tid: number, priority: number): void {
  if (priority !== 0) tryCall("ioprio_set", IOPRIO_WHO_PROCESS, tid, priority);
}
