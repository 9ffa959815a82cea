/** System V message queues with the messages that wait in them. */
import { call } from "../../kernel/calls.ts";
import type { NamespaceKind } from "../namespace-kind.ts";
import {
  createOwned,
  IPC,
  IPC_CREATE,
  IPC_EXCLUSIVE,
  IPC_NOWAIT,
  type Owned,
  ownedOf,
  PERMISSION_BYTES,
  permissions,
  type Row,
  TableWatch,
} from "../sysv.ts";

export interface MessageQueueState extends Owned {
  /** Most bytes in it. */
  limitBytes: number;
  /** struct msgbuf each: type (8 bytes) and text. */
  messages: Buffer[];
}

/** Copies a message by its place rather than takes it (kernel 3.8, CONFIG_CHECKPOINT_RESTORE). */
const MSG_COPY = 0o40000;
const STATUS_MORE_BYTES = 80;
const LIMIT_AT = PERMISSION_BYTES + 40;
const MESSAGE_BYTES = 1 << 20;
const TYPE_BYTES = 8;
const message = Buffer.alloc(TYPE_BYTES + MESSAGE_BYTES);

function read(row: Row): MessageQueueState {
  const owned = ownedOf(row, "msqid");
  const status = Buffer.alloc(PERMISSION_BYTES + STATUS_MORE_BYTES);
  call("msgctl", owned.id, IPC.status, status);
  const messages = Array.from({ length: Number(row.get("qnum")) }, (_, i) => {
    const n = call("msgrcv", owned.id, message, MESSAGE_BYTES, i, MSG_COPY | IPC_NOWAIT);
    return Buffer.from(message.subarray(0, TYPE_BYTES + n));
  });
  return { ...owned, limitBytes: Number(status.readBigUInt64LE(LIMIT_AT)), messages };
}

/**
 * @kept identifiers, keys, modes, owners, limits, the messages in their order with types.
 * @unkept who sent and received last, and when.
 */
export const msgqueue: NamespaceKind<MessageQueueState> = {
  kind: "msgqueue",
  version: 1,
  watch: (namespaceFd) => new TableWatch(namespaceFd, "msg", ["stime", "rtime", "ctime"], read),
  create(states) {
    for (const state of states) {
      const flags = IPC_CREATE | IPC_EXCLUSIVE | (state.mode & 0o777);
      createOwned("msg", state, () => call("msgget", state.key, flags));
      // Room first: the limit may have been lowered below what is in it already.
      const bytes = state.messages.reduce((sum, one) => sum + one.length, 0);
      setLimit(state, Math.max(bytes, state.limitBytes));
      for (const one of state.messages) call("msgsnd", state.id, one, one.length - TYPE_BYTES, IPC_NOWAIT);
      setLimit(state, state.limitBytes);
    }
  },
};

function setLimit(state: MessageQueueState, limitBytes: number): void {
  const data = permissions(state, STATUS_MORE_BYTES);
  data.writeBigUInt64LE(BigInt(limitBytes), LIMIT_AT);
  call("msgctl", state.id, IPC.set, data);
}
