/** The instance's end of the control protocol: answers the agent's requests, sends it events. */
import { chmodSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { OperatingError, toFailure } from "../kernel/failure.ts";
import type { ControlEvents, ControlMethods } from "./control.ts";
import { readLines, writeLine } from "./lines.ts";

export type ControlHandlers = {
  [M in keyof ControlMethods]: (params: ControlMethods[M]["params"]) => Promise<ControlMethods[M]["result"]>;
};

interface Request {
  id: number;
  method: string;
  params: unknown;
}

export class ControlServer {
  readonly #path: string;
  readonly #handlers: ControlHandlers;
  readonly #server: Server;
  readonly #connections = new Set<Socket>();
  /** Answers under way: `close` lets them out first. */
  readonly #answering = new Set<Promise<void>>();

  /** @param path unix socket; one that a dead predecessor left there is replaced. Call `listen` to begin. */
  constructor(path: string, handlers: ControlHandlers) {
    this.#path = path;
    this.#handlers = handlers;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /** Resolves when the socket is there (mode 0600). */
  async listen(): Promise<void> {
    rmSync(this.#path, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.#path, resolve);
    });
    chmodSync(this.#path, 0o600);
  }

  /** Sends an event on every control connection. */
  emit<E extends keyof ControlEvents>(event: E, data: ControlEvents[E]): void {
    for (const socket of this.#connections) writeLine(socket, { event, data });
  }

  /**
   * Waits (at most `graceMs`) for answers under way, then closes everything and removes the socket. A handler that wants
   * this (stop) lets it run after its own answer instead of waiting for it.
   */
  async close(graceMs = 1000): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const grace = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([Promise.all(this.#answering), grace]);
    clearTimeout(timer);
    const flushed = [...this.#connections].map((socket) => new Promise<void>((resolve) => socket.end(resolve)));
    await Promise.race([Promise.all(flushed), new Promise((resolve) => setTimeout(resolve, 100).unref())]);
    for (const socket of this.#connections) socket.destroy();
    // Removes the path as well.
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(socket: Socket): void {
    this.#connections.add(socket);
    socket.on("close", () => this.#connections.delete(socket));
    socket.on("error", () => socket.destroy());
    readLines(
      socket,
      (document) => {
        const answer = this.#answer(socket, document as Request).finally(() => this.#answering.delete(answer));
        this.#answering.add(answer);
      },
      () => socket.destroy(),
    );
  }

  async #answer(socket: Socket, { id, method, params }: Request): Promise<void> {
    try {
      if (!Object.hasOwn(this.#handlers, method)) {
        throw new OperatingError("unknown-method", `The instance does not know the request "${method}"`);
      }
      const handler = this.#handlers[method as keyof ControlMethods] as (params: unknown) => Promise<unknown>;
      writeLine(socket, { id, result: (await handler(params)) ?? {} });
    } catch (error) {
      writeLine(socket, { id, error: toFailure(error) });
    }
  }
}
