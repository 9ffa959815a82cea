/**
 * One mutually authenticated connection between two instances of an application: messages out, messages in.
 *
 * What comes in is handled for a few milliseconds at a time. However much one read brings, heartbeats go out in between: what is
 * written while this process does not come back to its event loop stays here, but for the first of it.
 */
import type { TLSSocket } from "node:tls";
import { descriptorOf } from "../kernel/socket.ts";
import { tcpAnswers } from "../kernel/tcp-info.ts";
import { Answers } from "./answers.ts";
import { FrameReader, FrameWriter, type Message } from "./frames.ts";
import { LIMITS } from "./limits.ts";
import { readInto } from "./read-into.ts";

/** So long at a time messages are handled before others have their turn. */
const READ_SLICE_MS = 10;
/** Of messages that wait for one another, to leave together. */
const GATHERED_BYTES = 256 << 10;
/** TLS hands out at most one record at a time. */
const RECORD_BYTES = 16 << 10;

/** Of a message that takes long to handle: the rest of the work, with pauses. Given up when the link is closed. */
export type Handling = Generator<void, void> | void;

export class Link {
  readonly socket: TLSSocket;
  /** The other node, by its certificate. */
  readonly peer: string;
  readonly #writer = new FrameWriter();
  readonly #reader = new FrameReader();
  /** Of what was read and is not handled yet, oldest first. */
  readonly #unhandled: Array<Generator<void, void>> = [];
  /** The rest of it is handled in the next turn of the loop. */
  #isWaiting = false;
  readonly #answers = new Answers();
  /** Where the next bytes are read. */
  #room = Buffer.allocUnsafeSlow(RECORD_BYTES);
  #closed = false;
  #isDeaf = false;
  /** The connection is gone; what came before its end is still handled. */
  #ended: { error?: Error | undefined } | undefined;
  /** Of messages, so far. */
  sentBytes = 0;
  /** `sentBytes` when the first that waits for others was sent. */
  #gatheredSince: number | undefined;
  onMessage: (message: Message) => Handling = () => {};
  /** Called once; with the error, or without when the peer ended the connection. */
  onClose: (error?: Error) => void = () => {};

  constructor(socket: TLSSocket, peer: string) {
    this.socket = socket;
    this.peer = peer;
    socket.setNoDelay(true);
    const isOwn = readInto(
      socket,
      () => this.#room,
      (length) => this.#receive(this.#room, length),
    );
    if (!isOwn) socket.on("data", (bytes: Buffer) => this.#receive(bytes, bytes.length));
    socket.on("error", (error) => this.#end(error));
    socket.on("close", () => this.#end());
  }

  #receive(bytes: Buffer, length: number): void {
    this.#answers.heard();
    if (this.#unhandled.length === 0 && this.#reader.absorb(bytes, length)) return;
    this.#unhandled.push(this.#messages(bytes.subarray(0, length)));
    if (!this.#isWaiting) this.#handle();
    // Some of it is for later: what comes next comes elsewhere.
    if (this.#unhandled.length > 0) this.#room = Buffer.allocUnsafeSlow(RECORD_BYTES);
  }

  *#messages(bytes: Buffer): Generator<void, void> {
    for (const message of this.#reader.feed(bytes)) {
      const rest = this.onMessage(message);
      if (rest) yield* rest;
      yield;
    }
  }

  #handle(): void {
    this.#isWaiting = false;
    try {
      if (!this.#handleUntil(performance.now() + READ_SLICE_MS)) {
        this.#isWaiting = true;
        this.socket.pause();
        setImmediate(() => this.#handle());
        return;
      }
      this.socket.resume();
      if (this.#ended) this.#close(this.#ended.error);
    } catch (error) {
      this.#close(error as Error);
    }
  }

  /** False: something is left. */
  #handleUntil(until: number): boolean {
    while (this.#unhandled[0]) {
      if (this.#closed || this.#isDeaf) for (const rest of this.#unhandled.splice(0)) rest.return();
      else if (this.#unhandled[0].next().done) this.#unhandled.shift();
      else if (performance.now() > until) return false;
    }
    return true;
  }

  #end(error?: Error): void {
    this.#ended ??= { error };
    this.socket.destroy();
    if (!this.#isWaiting) this.#close(this.#ended.error);
  }

  #close(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.socket.destroy();
    this.onClose(error);
  }

  /** From now on nothing that comes is handled, and what is half handled is given up; what is sent still goes out. */
  deafen(): void {
    this.#isDeaf = true;
  }

  get isClosed(): boolean {
    return this.#closed || this.#ended !== undefined;
  }

  get unsentBytes(): number {
    return this.socket.writableLength;
  }

  /** Whether the peer's machine owes an answer to what it was sent; false, too, where that cannot be known. */
  isUnanswered(now: number): boolean {
    const fd = descriptorOf(this.socket);
    return fd !== undefined && this.#answers.overdue(tcpAnswers(fd), now);
  }

  /** @param written called once the message's buffers are free again: handed to the network, or given up with the link */
  send(message: Message, written?: () => void): void {
    if (this.isClosed) {
      written?.();
      return;
    }
    this.socket.cork();
    this.#write(message, written);
    this.socket.uncork();
    this.#letGo();
  }

  /** As `send`, for one of many: it leaves with those after it, at the latest when the event loop has its next turn. */
  gather(message: Message, written?: () => void): void {
    if (this.isClosed) {
      written?.();
      return;
    }
    if (this.#gatheredSince === undefined) {
      this.#gatheredSince = this.sentBytes;
      this.socket.cork();
      process.nextTick(() => this.#letGo());
    }
    this.#write(message, written);
    if (this.sentBytes - this.#gatheredSince >= GATHERED_BYTES) this.#letGo();
  }

  #letGo(): void {
    if (this.#gatheredSince === undefined) return;
    this.#gatheredSince = undefined;
    this.socket.uncork();
  }

  #write(message: Message, written?: () => void): void {
    const parts = this.#writer.encode(message);
    for (const [i, part] of parts.entries()) {
      this.sentBytes += part.length;
      if (written && i === parts.length - 1) this.socket.write(part, written);
      else this.socket.write(part);
    }
  }

  /** Resolves when little waits to be sent, or the link is closed. */
  async drained(most: number = LIMITS.unsentBytes): Promise<void> {
    while (!this.isClosed && this.socket.writableLength > most) {
      await new Promise<void>((resolve) => {
        const done = () => {
          this.socket.off("drain", done);
          this.socket.off("close", done);
          resolve();
        };
        this.socket.once("drain", done);
        this.socket.once("close", done);
      });
    }
  }

  /** Closes without a call of `onClose`. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.socket.destroy();
  }

  /** As `close`, but the peer is told why first. */
  goodbye(reason: string): void {
    if (this.#closed) return;
    this.send({ type: "goodbye", reason });
    this.#closed = true;
    this.socket.end();
    setTimeout(() => this.socket.destroy(), 1000).unref();
  }
}
