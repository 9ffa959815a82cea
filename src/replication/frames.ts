/**
 * Frames of the stream from primary to clone and back: {u32 payload length, u8 type} and the payload. A checkpoint's frames
 * carry a rolling CRC-32C over everything of the stream up to its end, so that a lost, altered or repeated frame shows.
 */
import { pack, unpack } from "msgpackr";
import { BlockPool, type Room } from "../checkpoint/blocks.ts";
import type { CheckpointEnd, Operation } from "../checkpoint/operations.ts";
import type { RestartOrder } from "../cluster/restart.ts";
import type { View } from "../cluster/spec.ts";
import type { Lacking } from "../files/offer.ts";
import type { ProgramPart } from "../files/program-file.ts";
import { crc32c } from "../kernel/checksum.ts";
import { type Failure, OperatingError } from "../kernel/failure.ts";
import type { Program } from "../tree/programs.ts";
import { LIMITS } from "./limits.ts";

/** Grows when frames change their meaning; another version is refused. */
export const STREAM_VERSION = 5;

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
  | { type: "refused"; reason: string; failure?: Failure; view?: View; revision?: number }
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

/** `pages` and `write`: an operation whose bytes come as they are, behind a few that tell where they belong. */
const TYPE = { control: 1, pages: 2, write: 3 } as const;
const HEADER_BYTES = 5;
const PID_BYTES = 4;
/** Place in the file, length of the path; then the path. */
const WRITE_BYTES = 8 + 2;

/** Whether a message takes part in the rolling digest. */
function isContent(message: Message): boolean {
  return message.type === "operation" || message.type === "end";
}

/** One direction's encoder; keeps the digest of what it has sent. */
export class FrameWriter {
  #digest = 0;

  /** Buffers to write, in order. Pages and what is written to files are not copied: they must stay as they are until they are sent. */
  encode(message: Message): Buffer[] {
    if (message.type === "operation") {
      const { operation } = message;
      if (operation.op === "pages") return this.#bulk(TYPE.pages, pagesPlace(operation.pid), operation.bytes);
      if (operation.op === "file" && operation.change.type === "write")
        return this.#bulk(TYPE.write, writePlace(operation.change), operation.change.bytes);
    }
    const whole = message.type === "end" ? { ...message, digest: this.#digest } : message;
    const payload = pack(whole);
    if (isContent(message)) this.#digest = crc32c(payload, this.#digest);
    return [header(TYPE.control, payload.length), payload];
  }

  #bulk(type: number, place: Buffer, bytes: Buffer): Buffer[] {
    this.#digest = crc32c(bytes, crc32c(place, this.#digest));
    return [Buffer.concat([header(type, place.length + bytes.length), place]), bytes];
  }
}

function header(type: number, payloadBytes: number): Buffer {
  const head = Buffer.allocUnsafe(HEADER_BYTES);
  head.writeUInt32LE(payloadBytes, 0);
  head.writeUInt8(type, 4);
  return head;
}

function pagesPlace(pid: number): Buffer {
  const place = Buffer.allocUnsafe(PID_BYTES);
  place.writeUInt32LE(pid, 0);
  return place;
}

function writePlace({ path, at }: { path: string; at: number }): Buffer {
  const place = Buffer.allocUnsafe(WRITE_BYTES + path.length);
  place.writeDoubleLE(at, 0);
  place.writeUInt16LE(path.length, 8);
  place.write(path, WRITE_BYTES, "latin1");
  return place;
}

/** One direction's decoder: bytes in, messages out. Throws `stream-damaged` on anything that is not well-formed. */
export class FrameReader {
  #digest = 0;
  readonly #head = Buffer.alloc(HEADER_BYTES);
  readonly #blocks = new BlockPool();
  /** Gives the payload's room back, where that is for more than once. */
  #release: (() => void) | undefined;
  #headBytes = 0;
  #payload: Buffer | undefined;
  #payloadBytes = 0;

  /** Takes the first `length` bytes, of the middle of a message; false, and nothing is taken, where they may begin or end one. */
  absorb(bytes: Buffer, length = bytes.length): boolean {
    if (!this.#payload || this.#payloadBytes + length >= this.#payload.length) return false;
    this.#payloadBytes += bytes.copy(this.#payload, this.#payloadBytes, 0, length);
    return true;
  }

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
        const room = this.#room(this.#head.readUInt8(4), length);
        this.#payload = room.bytes;
        this.#release = room.release;
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

  #room(type: number, length: number): Room {
    if (type === TYPE.pages) return this.#blocks.room(length, 0);
    return type === TYPE.write ? this.#blocks.room(length) : { bytes: Buffer.allocUnsafeSlow(length) };
  }

  #decode(type: number, payload: Buffer): Message {
    if (type === TYPE.pages || type === TYPE.write) {
      this.#digest = crc32c(payload, this.#digest);
      const room = this.#release ? { release: this.#release } : {};
      return { type: "operation", operation: type === TYPE.pages ? pagesOf(payload, room) : writeOf(payload, room) };
    }
    if (type !== TYPE.control) throw damaged(`a frame of unknown type ${type}`);
    const message = parse(payload);
    if (message.type === "end" && message.digest !== this.#digest)
      throw damaged(`checkpoint ${message.end.epoch} does not have the checksum it was sent with`);
    if (isContent(message)) this.#digest = crc32c(payload, this.#digest);
    return message;
  }
}

function pagesOf(payload: Buffer, room: Pick<Room, "release">): Operation {
  if (payload.length < PID_BYTES) throw damaged("a page stream without a process");
  return { op: "pages", pid: payload.readUInt32LE(0), bytes: payload.subarray(PID_BYTES), ...room };
}

function writeOf(payload: Buffer, room: Pick<Room, "release">): Operation {
  const pathEnd = payload.length < WRITE_BYTES ? Number.POSITIVE_INFINITY : WRITE_BYTES + payload.readUInt16LE(8);
  if (pathEnd > payload.length) throw damaged("bytes of a file without its path");
  const path = payload.toString("latin1", WRITE_BYTES, pathEnd);
  const bytes = payload.subarray(pathEnd);
  return { op: "file", change: { type: "write", path, at: payload.readDoubleLE(0), bytes, ...room } };
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
