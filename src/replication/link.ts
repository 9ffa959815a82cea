/** One mutually authenticated connection between two instances of an application: messages out, messages in. */
import type { TLSSocket } from "node:tls";
import { FrameReader, FrameWriter, type Message } from "./frames.ts";
import { LIMITS } from "./limits.ts";

export class Link {
  readonly socket: TLSSocket;
  /** The other node, by its certificate. */
  readonly peer: string;
  readonly #writer = new FrameWriter();
  readonly #reader = new FrameReader();
  #closed = false;
  /** Of messages, so far. */
  sentBytes = 0;
  onMessage: (message: Message) => void = () => {};
  /** Called once; with the error, or without when the peer ended the connection. */
  onClose: (error?: Error) => void = () => {};

  constructor(socket: TLSSocket, peer: string) {
    this.socket = socket;
    this.peer = peer;
    socket.setNoDelay(true);
    socket.on("data", (bytes: Buffer) => this.#receive(bytes));
    socket.on("error", (error) => this.#end(error));
    socket.on("close", () => this.#end());
  }

  #receive(bytes: Buffer): void {
    try {
      for (const message of this.#reader.feed(bytes)) {
        if (this.#closed) return;
        this.onMessage(message);
      }
    } catch (error) {
      this.#end(error as Error);
    }
  }

  #end(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.socket.destroy();
    this.onClose(error);
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  get unsentBytes(): number {
    return this.socket.writableLength;
  }

  /** @param written called once the message's buffers are free again: handed to the network, or given up with the link */
  send(message: Message, written?: () => void): void {
    if (this.#closed) {
      written?.();
      return;
    }
    this.socket.cork();
    const parts = this.#writer.encode(message);
    for (const [i, part] of parts.entries()) {
      this.sentBytes += part.length;
      if (written && i === parts.length - 1) this.socket.write(part, written);
      else this.socket.write(part);
    }
    this.socket.uncork();
  }

  /** Resolves when little waits to be sent, or the link is closed. */
  async drained(): Promise<void> {
    while (!this.#closed && this.socket.writableLength > LIMITS.unsentBytes) {
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
