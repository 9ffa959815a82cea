/** One TCP connection that is read by lines and by bytes, and never connects again: that it survives is the point. */
import { connect, type Socket } from "node:net";

export interface Target {
  host: string;
  port: number;
}

/** An answer that has not come after so long will not come. */
const ANSWER_LIMIT_MS = 90_000;
const NEWLINE = 10;

export class Wire {
  readonly #socket: Socket;
  #received: Buffer[] = [];
  #broken: Error | undefined;
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (bytes) => {
      this.#received.push(bytes);
      this.#wake();
    });
    const breaks = (error: Error) => {
      this.#broken ??= error;
      this.#wake();
    };
    socket.on("error", breaks);
    socket.on("close", () => breaks(new Error("The server closed the connection")));
  }

  static over(socket: Socket): Wire {
    return new Wire(socket);
  }

  static open({ host, port }: Target): Promise<Wire> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, host);
      socket.once("error", reject);
      socket.once("connect", () => {
        socket.off("error", reject);
        resolve(new Wire(socket));
      });
    });
  }

  write(data: string | Buffer): void {
    if (this.#broken) throw this.#broken;
    this.#socket.write(data);
  }

  /** Up to the next newline, without it and without a carriage return before it. */
  async line(): Promise<string> {
    const bytes = await this.#take((have) => {
      const at = have.indexOf(NEWLINE);
      return at < 0 ? undefined : at + 1;
    });
    return bytes.toString("latin1").replace(/\r?\n$/, "");
  }

  bytes(count: number): Promise<Buffer> {
    return this.#take((have) => (have.length >= count ? count : undefined));
  }

  /** Whatever has come, at least a byte. */
  some(): Promise<Buffer> {
    return this.#take((have) => have.length || undefined);
  }

  async #take(enough: (have: Buffer) => number | undefined): Promise<Buffer> {
    for (;;) {
      const have = this.#received.length === 1 ? this.#received[0]! : Buffer.concat(this.#received);
      const count = enough(have);
      if (count !== undefined) {
        this.#received = count < have.length ? [have.subarray(count)] : [];
        return have.subarray(0, count);
      }
      this.#received = have.length > 0 ? [have] : [];
      if (this.#broken) throw this.#broken;
      await this.#more();
    }
  }

  #more(): Promise<void> {
    return new Promise((resolve, reject) => {
      const limit = () => reject(new Error(`No answer within ${ANSWER_LIMIT_MS} ms`));
      const timer = setTimeout(limit, ANSWER_LIMIT_MS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  close(): void {
    this.#socket.removeAllListeners("close");
    this.#socket.destroy();
  }
}
