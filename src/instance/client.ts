/** The agent's end of the control protocol. */
import { EventEmitter } from "node:events";
import { connect, type Socket } from "node:net";
import { type Failure, fromFailure, OperatingError } from "../kernel/failure.ts";
import type { ControlEvents, ControlMethods } from "./control.ts";
import { readLines, writeLine } from "./lines.ts";

interface Answer {
  id: number;
  result?: unknown;
  error?: Failure;
}

interface Event {
  event: keyof ControlEvents;
  data: unknown;
}

interface Pending {
  resolve: (result: unknown) => void;
  reject: (error: Error) => void;
}

export interface CallOptions {
  /** Give up after so many milliseconds with the failure `instance-silent`; without it wait as long as the instance lives. */
  timeoutMs?: number;
}

type ClientEvents = { [E in keyof ControlEvents]: [ControlEvents[E]] } & { close: [] };

export class ControlClient extends EventEmitter<ClientEvents> {
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;

  private constructor(socket: Socket) {
    super();
    this.#socket = socket;
    readLines(
      socket,
      (document) => this.#receive(document as Answer | Event),
      () => socket.destroy(),
    );
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#closed());
  }

  /** Fails with the errno of connect: ENOENT or ECONNREFUSED when no instance listens there. */
  static connect(path: string): Promise<ControlClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(path);
      socket.once("error", reject);
      socket.once("connect", () => {
        socket.removeListener("error", reject);
        resolve(new ControlClient(socket));
      });
    });
  }

  /** Fails with the instance's own failure, or with `instance-gone` when the connection ends before the answer. */
  call<M extends keyof ControlMethods>(
    method: M,
    params: ControlMethods[M]["params"],
    options: CallOptions = {},
  ): Promise<ControlMethods[M]["result"]> {
    if (this.closed) return Promise.reject(gone(method));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      this.#pending.set(id, {
        resolve: (result) => {
          clearTimeout(timer);
          resolve(result as ControlMethods[M]["result"]);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      if (options.timeoutMs !== undefined) {
        timer = setTimeout(() => this.#expire(id, method, options.timeoutMs!), options.timeoutMs);
      }
      writeLine(this.#socket, { id, method, params });
    });
  }

  get closed(): boolean {
    return this.#socket.destroyed;
  }

  close(): void {
    this.#socket.destroy();
  }

  #expire(id: number, method: string, afterMs: number): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.reject(
      new OperatingError("instance-silent", `The instance did not answer "${method}" within ${afterMs} ms`, {
        remedy: "Try again; if it stays silent, look at the instance's log.",
      }),
    );
  }

  #receive(document: Answer | Event): void {
    if ("event" in document) {
      if (document.event === "note") this.emit("note", document.data as ControlEvents["note"]);
      if (document.event === "changed") this.emit("changed", document.data as ControlEvents["changed"]);
      return;
    }
    const pending = this.#pending.get(document.id);
    this.#pending.delete(document.id);
    if (document.error) pending?.reject(fromFailure(document.error));
    else pending?.resolve(document.result);
  }

  #closed(): void {
    for (const pending of this.#pending.values()) pending.reject(gone("a request"));
    this.#pending.clear();
    this.emit("close");
  }
}

function gone(method: string): OperatingError {
  return new OperatingError("instance-gone", `The instance ended before it answered ${method}`, {
    remedy: "The agent starts it again when that is right; look at `understudy status`.",
  });
}
