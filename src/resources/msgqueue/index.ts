/** System V message queues with the messages that wait in them. */
import { call } from "../../kernel/calls.ts";
import type { NamespaceKind } from "../namespace-kind.ts";
import {
  createOwned,
  IPC,
  IPC_CREATE,
  IPC_EXCLUSIVE,
  type Owned,
  ownedOf,
  PERMISSION_BYTES,
  permissions,
  type Row,
  TableWatch,
} from "../sysv.ts";
import { messagesOf, sendAll, TYPE_BYTES } from "./content.ts";
import { allowing, type QueueLimits, readLimits, writeLimits } from "./limits.ts";

export interface MessageQueueState extends Owned {
  /** Most bytes in it. */
  limitBytes: number;
  /** The namespace's. */
  limits?: QueueLimits;
  /** struct msgbuf each: type (8 bytes) and text. */
  messages: Buffer[];
}

const STATUS_MORE_BYTES = 80;
const LIMIT_AT = PERMISSION_BYTES + 40;

function read(row: Row): MessageQueueState {
  const owned = ownedOf(row, "msqid");
  const status = Buffer.alloc(PERMISSION_BYTES + STATUS_MORE_BYTES);
  call("msgctl", owned.id, IPC.status, status);
  const messages = messagesOf(owned.id, Number(row.get("qnum")));
  return { ...owned, limitBytes: Number(status.readBigUInt64LE(LIMIT_AT)), limits: readLimits(), messages };
}

/**
 * @kept identifiers, keys, modes, owners, limits (of the namespace as well, where it has queues), the messages in their order with types.
 * @unkept who sent and received last, and when.
 */
export const msgqueue: NamespaceKind<MessageQueueState> = {
  kind: "msgqueue",
  version: 1,
  watch: (namespaceFd) => new TableWatch(namespaceFd, "msg", ["stime", "rtime", "ctime"], read),
  create(states) {
    for (const state of states) make(state);
    const limits = states.find((state) => state.limits)?.limits;
    if (limits) writeLimits(limits);
  },
};

function make(state: MessageQueueState): void {
  const { messages, limitBytes } = state;
  const flags = IPC_CREATE | IPC_EXCLUSIVE | (state.mode & 0o777);
  createOwned("msg", state, () => call("msgget", state.key, flags));
  // Room first: the limits may have been lowered below what is in it already.
  const queueBytes = Math.max(
    limitBytes,
    messages.reduce((sum, one) => sum + one.length, 0),
  );
  const messageBytes = messages.reduce((most, one) => Math.max(most, one.length - TYPE_BYTES), 0);
  allowing({ messageBytes, queueBytes }, () => {
    setLimit(state, queueBytes);
    sendAll(state.id, messages);
    setLimit(state, limitBytes);
  });
}

function setLimit(state: MessageQueueState, limitBytes: number): void {
  const data = permissions(state, STATUS_MORE_BYTES);
  data.writeBigUInt64LE(BigInt(limitBytes), LIMIT_AT);
  call("msgctl", state.id, IPC.set, data);
}
