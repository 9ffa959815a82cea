/**
 * A Redis client that never connects again by itself: the point of the workload is that a connection survives, so a
 * broken one is a finding to report, not a nuisance to hide.
 */
import { connect as connectSocket, type Socket } from "node:net";
import { ErrorReply, encodeCommand, type Reply, ReplyParser } from "./resp.ts";

export interface Address {
  host: string;
  port: number;
}

/** The connection ended while somebody still wanted answers from it. */
export class ConnectionBroken extends Error {
  override name = "ConnectionBroken";
}

/** Redis answered with an error. */
export class RedisError extends Error {
  override name = "RedisError";
}

interface Waiting {
  resolve(reply: Reply): void;
  reject(reason: Error): void;
}

export class RedisClient {
  readonly #socket: Socket;
  readonly #parser = new ReplyParser();
  readonly #waiting: Waiting[] = [];
  #broken: ConnectionBroken | undefined;
  #closing = false;
  readonly #onBroken: ((reason: ConnectionBroken) => void)[] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (bytes) => this.#receive(bytes));
    socket.on("error", (error) => this.#break(error.message, error));
    socket.on("close", () => this.#break("The server closed the connection"));
  }

  /** Throws ConnectionBroken when there is no connection within `timeoutMs`. */
  static connect(address: Address, timeoutMs = 5000): Promise<RedisClient> {
    return new Promise((resolve, reject) => {
      const socket = connectSocket(address.port, address.host);
      const fail = (message: string) => {
        clearTimeout(timer);
        socket.destroy();
        reject(new ConnectionBroken(`Cannot connect to ${address.host}:${address.port}: ${message}`));
      };
      const timer = setTimeout(() => fail(`no answer within ${timeoutMs} ms`), timeoutMs);
      const onError = (error: Error) => fail(error.message);
      socket.once("error", onError);
      socket.once("connect", () => {
        clearTimeout(timer);
        socket.off("error", onError);
        resolve(new RedisClient(socket));
      });
    });
  }

  get broken(): ConnectionBroken | undefined {
    return this.#broken;
  }

  /** Called once, when the connection breaks without `close` having been asked for. */
  onBroken(listener: (reason: ConnectionBroken) => void): void {
    if (this.#broken) listener(this.#broken);
    else this.#onBroken.push(listener);
  }

  /** The reply, error replies included. Rejects with ConnectionBroken only. Calls may overlap: they are pipelined. */
  ask(...words: string[]): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (this.#broken) return reject(this.#broken);
      this.#waiting.push({ resolve, reject });
      this.#socket.write(encodeCommand(words));
    });
  }

  /** As `ask`, but an error reply rejects with RedisError. */
  async call(...words: string[]): Promise<Reply> {
    const reply = await this.ask(...words);
    if (reply instanceof ErrorReply) throw new RedisError(`${words[0]} answered ${JSON.stringify(reply.message)}`);
    return reply;
  }

  close(): void {
    this.#closing = true;
    this.#socket.destroy();
  }

  #receive(bytes: Buffer): void {
    let replies: Reply[];
    try {
      replies = this.#parser.push(bytes);
    } catch (error) {
      this.#break(error instanceof Error ? error.message : String(error));
      return;
    }
    for (const reply of replies) {
      const waiting = this.#waiting.shift();
      if (waiting === undefined) this.#break("The server sent a reply that nobody asked for");
      else waiting.resolve(reply);
    }
  }

  #break(message: string, cause?: Error): void {
    if (this.#broken) return;
    this.#broken = new ConnectionBroken(message, cause === undefined ? {} : { cause });
    this.#socket.destroy();
    for (const waiting of this.#waiting.splice(0)) waiting.reject(this.#broken);
    if (!this.#closing) for (const listener of this.#onBroken) listener(this.#broken);
  }
}
