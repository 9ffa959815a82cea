/** What an IPC namespace allows its System V message queues (msgget(2), /proc/sys/kernel). With this thread in it. */
import { readFileSync, writeFileSync } from "node:fs";

export interface QueueLimits {
  /** Of a message: msgmax. */
  messageBytes: number;
  /** Of a queue that is made: msgmnb. Only the privileged may give it more. */
  queueBytes: number;
}

const MESSAGE = "/proc/sys/kernel/msgmax";
const QUEUE = "/proc/sys/kernel/msgmnb";

export function readLimits(): QueueLimits {
  const [messageBytes, queueBytes] = [MESSAGE, QUEUE].map((file) => Number(readFileSync(file, "latin1")));
  return { messageBytes: messageBytes!, queueBytes: queueBytes! };
}

/** Only what differs: /proc/sys may be read-only. */
export function writeLimits({ messageBytes, queueBytes }: QueueLimits): void {
  const before = readLimits();
  if (messageBytes !== before.messageBytes) writeFileSync(MESSAGE, String(messageBytes));
  if (queueBytes !== before.queueBytes) writeFileSync(QUEUE, String(queueBytes));
}

/** Runs `body` while at least so much is allowed: limits may have been lowered since messages were sent. */
export function allowing<T>({ messageBytes, queueBytes }: QueueLimits, body: () => T): T {
  const limits = readLimits();
  if (messageBytes <= limits.messageBytes && queueBytes <= limits.queueBytes) return body();
  writeLimits({
    messageBytes: Math.max(messageBytes, limits.messageBytes),
    queueBytes: Math.max(queueBytes, limits.queueBytes),
  });
  try {
    return body();
  } finally {
    writeLimits(limits);
  }
}
