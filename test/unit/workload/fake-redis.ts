/** A server that speaks enough Redis for the counters and can be told to lie, forget, stall or hang up. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { ReplyParser } from "../../../workload/resp.ts";

export class FakeRedis {
  readonly data = new Map<string, string>();
  readonly sockets = new Set<Socket>();
  /** Sees each command first; a string is sent as the reply in place of the honest one, `silence` sends nothing. */
  lie: (words: string[]) => string | "silence" | undefined = () => undefined;
  #paused: Promise<void> | undefined;
  readonly #server = createServer((socket) => this.#serve(socket));

  async listen(): Promise<{ host: string; port: number }> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return { host: "127.0.0.1", port: (this.#server.address() as AddressInfo).port };
  }

  /** Answers nothing for this long; commands that come meanwhile are executed and answered afterwards. */
  pause(ms: number): void {
    this.#paused = new Promise((resolve) => setTimeout(resolve, ms));
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.#server.close();
  }

  #serve(socket: Socket): void {
    this.sockets.add(socket);
    const parser = new ReplyParser();
    socket.on("error", () => {});
    socket.on("data", async (bytes) => {
      const commands = parser.push(bytes);
      await this.#paused;
      for (const words of commands) {
        const reply = this.lie(words as string[]) ?? this.#execute(words as string[]);
        if (reply !== "silence" && !socket.destroyed) socket.write(reply);
      }
    });
  }

  #execute([name, key = "", value = "", option]: string[]): string {
    const old = this.data.get(key);
    const bulk = old === undefined ? "$-1\r\n" : `$${old.length}\r\n${old}\r\n`;
    if (name === "GET") return bulk;
    this.data.set(key, value);
    return option === "GET" ? bulk : "+OK\r\n";
  }
}
