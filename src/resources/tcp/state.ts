/** A TCP socket's state on a standby: the last record and both queues, built up from what each checkpoint brings. */
import { markWhole, RECORD_BYTES, TcpRecord } from "./record.ts";

export interface TcpState {
  readonly record: TcpRecord;
  /** Bytes [receiveStart, receiveEnd). */
  readonly received: Buffer;
  /** Bytes [sendStart, sendEnd). */
  readonly sent: Buffer;
}

/**
 * The state after a change (a record and the bytes that come with it), without touching the state before: a standby keeps
 * several checkpoints. Throws when the change does not follow on `before`, or does not hold what it says.
 */
export function applyTcpChange(before: TcpState | undefined, content: Buffer): TcpState {
  const record = new TcpRecord(content);
  const { receiveBytes, sendBytes } = record;
  if (content.length !== RECORD_BYTES + receiveBytes + sendBytes) throw new Error("TCP change of the wrong length");
  const middle = RECORD_BYTES + receiveBytes;
  const previous = before?.record;
  return {
    record,
    received: queue(
      previous && { start: previous.receiveStart, bytes: before.received },
      record.receiveStart,
      record.receiveFrom,
      content.subarray(RECORD_BYTES, middle),
    ),
    sent: queue(
      previous && { start: previous.sendStart, bytes: before.sent },
      record.sendStart,
      record.sendFrom,
      content.subarray(middle),
    ),
  };
}

interface Queue {
  start: number;
  bytes: Buffer;
}

/** [start, from) of the queue before, then what is new. */
function queue(before: Queue | undefined, start: number, from: number, added: Buffer): Buffer {
  const kept = (from - start) | 0;
  if (kept === 0) return added;
  const skipped = before === undefined ? 0 : (start - before.start) | 0;
  if (before === undefined || kept < 0 || skipped < 0 || skipped + kept !== before.bytes.length) {
    throw new Error("TCP change does not follow on the state before");
  }
  const rest = before.bytes.subarray(skipped);
  return added.length === 0 ? rest : Buffer.concat([rest, added]);
}

/** The state as one change that follows on nothing: for a standby that joins, or a file. */
export function wholeTcpState(state: TcpState): Buffer {
  const { record, received, sent } = state;
  const out = Buffer.allocUnsafe(RECORD_BYTES + received.length + sent.length);
  record.bytes.copy(out);
  markWhole(out, received.length, sent.length);
  received.copy(out, RECORD_BYTES);
  sent.copy(out, RECORD_BYTES + received.length);
  return out;
}
