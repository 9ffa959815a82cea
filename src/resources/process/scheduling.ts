/** How a thread is scheduled: policy, nice value, priority, and the processors it may run on. See sched(7). */
import { call, tryCall } from "../../kernel/calls.ts";

export interface Scheduling {
  /** struct sched_attr */
  attributes: Buffer;
  /** Mask of processors; empty: any. */
  processors: Buffer;
}

const ATTRIBUTE_BYTES = 48;
const MASK_BYTES = 1024;
const mask = Buffer.alloc(MASK_BYTES);

function readMask(tid: number): Buffer {
  return Buffer.from(mask.subarray(0, call("sched_getaffinity", tid, MASK_BYTES, mask)));
}

/** The processors of this node, as far as programs started on it get them: asked of process 1. */
const any = readMask(1);

export function readScheduling(tid: number): Scheduling {
  const attributes = Buffer.alloc(ATTRIBUTE_BYTES);
  call("sched_getattr", tid, attributes, ATTRIBUTE_BYTES, 0);
  const processors = readMask(tid);
  return { attributes, processors: processors.equals(any) ? Buffer.alloc(0) : processors };
}

/** Gives a clone's thread its scheduling. On a node without these processors it runs on any. */
export function restoreScheduling(tid: number, { attributes, processors }: Scheduling): void {
  call("sched_setattr", tid, attributes, 0);
  if (processors.length > 0) tryCall("sched_setaffinity", tid, processors.length, processors);
}
