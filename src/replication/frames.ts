/**
 * Frames of the stream from primary to clone and back: {u32 payload length, u8 type} and the payload. A checkpoint's frames
 * carry a rolling CRC-32 over everything of the stream up to its end, so that a lost, altered or repeated frame shows.
 */
import { crc32 } from "node:zlib";
import { pack, unpack } from "msgpackr";
import { BlockPool } from "../checkpoint/blocks.ts";
import type { CheckpointEnd, Operation } from "../checkpoint/operations.ts";
import type { RestartOrder } from "../cluster/restart.ts";
import type { View } from "../cluster/spec.ts";
import type { Lacking } from "../files/offer.ts";
import type { ProgramPart } from "../files/program-file.ts";
import { OperatingError } from "../kernel/failure.ts";
import type { Program } from "../tree/programs.ts";
import { LIMITS } from "./limits.ts";

/** Grows when frames change their meaning; another version is refused. */
export const STREAM_VERSION = 3;

/** Primary → clone, first. */
export interface Hello {
  version: number;
  application: string;
  node: string;
  term: number;
  view: View;
  revision: number;
  /** The primary's number of this synchronisation. */
  stream: number;
  /** Clocks of the application at the moment of sending, nanoseconds. */
  clocks: { monotonic: string; boottime: string };
  /** For digests of pages: a secret of this connection. */
  key: Buffer;
}

export type Message =
  | { type: "hello"; hello: Hello }
  /** `holds`: files of an earlier clone are there, so that blocks are worth an offer; `memory`: digests of its pages follow. */
  | { type: "accepted"; holds: boolean; memory: boolean }
  /** Clone → primary: digests of pages of the earlier clone, in their order; at last a message without. */
  | { type: "held"; digests?: Buffer }
  /** Clone → primary: an operation `kept` is done. */
  | { type: "took" }
  | { type: "refused"; reason: string; view?: View; revision?: number }
  | { type: "operation"; operation: Operation }
  | { type: "end"; end: CheckpointEnd; digest: number }
  | { type: "heartbeat" }
  /** Clone → primary: the answer to an offer of blocks. */
  | { type: "lacking"; lacking: Lacking }
  /** Primary → clone, before a first copy maps anything: what is mapped of the node's own files. Always answered. */
  | { type: "programs"; programs: Program[] }
  /** Clone → primary: those that are not here, or others. */
  | { type: "programs-wanted"; paths: string[] }
  /** Primary → clone: those that were wanted, file by file, then that it was all. */
  | { type: "program"; part: ProgramPart }
  | { type: "programs-sent" }
  | { type: "acknowledged"; term: number; epoch: number }
  | { type: "go-live"; term: number; epoch: number }
  /** Clone → the primary that stands aside: it comes to life as primary of `term`, and is not done yet. */
  | { type: "rising"; term: number }
  /** Primary → clone: the application has crashed or hangs; go on with it. */
  | { type: "restart"; order: RestartOrder }
  /** The sender closes on purpose; the peer need not suspect it. */
  | { type: "goodbye"; reason: string };

const TYPE = { control: 1, pages: 2 } as const;
const HEADER_BYTES = 5;

/** Whether a message takes part in the rolling digest. */
function isContent(message: Message): boolean {
  return message.type === "operation" || message.type === "end";
}

/** One direction's encoder; keeps the digest of what it has sent. */
export class FrameWriter {
  #digest = 0;

  /** Buffers to write, in order. A page stream is not copied: it must stay as it is until it is written. */
  encode(message: Message): Buffer[] {
    if (message.type === "operation" && message.operation.op === "pages") {
      const head = Buffer.alloc(HEADER_BYTES + 4);
      const { bytes, pid } = message.operation;
      head.writeUInt32LE(4 + bytes.length, 0);
      head.writeUInt8(TYPE.pages, 4);
      head.writeUInt32LE(pid, 5);
      this.#digest = crc32(bytes, crc32(head.subarray(HEADER_BYTES), this.#digest));
      return [head, bytes];
    }
    const whole = message.type === "end" ? { ...message, digest: this.#digest } : message;
    const payload = pack(whole);
    if (isContent(message)) this.#digest = crc32(payload, this.#digest);
    const head = Buffer.alloc(HEADER_BYTES);
    head.writeUInt32LE(payload.length, 0);
    head.writeUInt8(TYPE.control, 4);
    return [head, payload];
  }
}

/** One direction's decoder: bytes in, messages out. Throws `stream-damaged` on anything that is not well-formed. */
export class FrameReader {
  #digest = 0;
  readonly #head = Buffer.alloc(HEADER_BYTES);
  readonly #blocks = new BlockPool();
  /** The block that holds the payload of a page stream. */
  #block: Buffer | undefined;
  #headBytes = 0;
  #payload: Buffer | undefined;
  #payloadBytes = 0;

  *feed(bytes: Buffer): Generator<Message> {
    let at = 0;
    while (at < bytes.length) {
      if (!this.#payload) {
        const n = bytes.copy(this.#head, this.#headBytes, at, at + HEADER_BYTES - this.#headBytes);
        this.#headBytes += n;
        at += n;
        if (this.#headBytes < HEADER_BYTES) return;
        const length = this.#head.readUInt32LE(0);
        if (length > LIMITS.frameBytes) throw damaged(`a frame of ${length} bytes`);
        this.#block = this.#head.readUInt8(4) === TYPE.pages ? this.#blocks.take(length) : undefined;
        this.#payload = this.#block?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length);
        this.#payloadBytes = 0;
      }
      const n = bytes.copy(this.#payload, this.#payloadBytes, at);
      this.#payloadBytes += n;
      at += n;
      if (this.#payloadBytes < this.#payload.length) return;
      const payload = this.#payload;
      this.#payload = undefined;
      this.#headBytes = 0;
      yield this.#decode(this.#head.readUInt8(4), payload);
    }
  }

  #decode(type: number, payload: Buffer): Message {
    if (type === TYPE.pages) {
      if (payload.length < 4) throw damaged("a page stream without a process");
      this.#digest = crc32(payload, this.#digest);
      const block = this.#block;
      const release = () => {
        if (block) this.#blocks.give(block);
      };
      const operation: Operation = { op: "pages", pid: payload.readUInt32LE(0), bytes: payload.subarray(4), release };
      return { type: "operation", operation };
    }
    if (type !== TYPE.control) throw damaged(`a frame of unknown type ${type}`);
    const message = parse(payload);
    if (message.type === "end" && message.digest !== this.#digest)
      throw damaged(`checkpoint ${message.end.epoch} does not have the checksum it was sent with`);
    if (isContent(message)) this.#digest = crc32(payload, this.#digest);
    return message;
  }
}

function parse(payload: Buffer): Message {
  let message: unknown;
  try {
    message = unpack(payload);
  } catch (cause) {
    throw damaged("a control frame that cannot be decoded", cause);
  }
  if (typeof message !== "object" || message === null || typeof (message as Message).type !== "string")
    throw damaged("a control frame without a type");
  return message as Message;
}

export function damaged(what: string, cause?: unknown): OperatingError {
  return new OperatingError("stream-damaged", `The stream has ${what}`, {
    remedy:
      "The clone is given up and filled anew; if this repeats, check the network and that all nodes run the same version.",
    ...(cause === undefined ? {} : { cause }),
  });
}
