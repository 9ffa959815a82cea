/** The parent's side of client/main.ts. */
import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Lab } from "../../src/lab/lab.ts";
import { eventually, Hopeless } from "../support/eventually.ts";
import type { ClientResult } from "./client/main.ts";

const PROGRAM = fileURLToPath(new URL("client/main.ts", import.meta.url));

/** So many turns after something happened show that the server goes on. */
const TURNS_SEEN = 20;

export type ClientKind =
  | "lines"
  | "ledger"
  | "counting"
  | "many"
  | "memcached"
  | "websocket"
  | "sink"
  | "pages"
  | "download";

export class Clients {
  readonly kind: ClientKind;
  readonly #child: ChildProcess;
  readonly #finished: Promise<ClientResult>;
  #complaints = "";
  #last: ClientResult = { turns: 0, findings: [] };

  private constructor(kind: ClientKind, child: ChildProcess) {
    this.kind = kind;
    this.#child = child;
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.#complaints += text;
    });
    this.#finished = new Promise((resolve, reject) => {
      const lines = createInterface({ input: child.stdout! });
      lines.on("line", (line) => {
        const { finished, ...result } = JSON.parse(line) as ClientResult & { finished?: boolean };
        this.#last = result;
        if (finished) resolve(result);
      });
      lines.on("close", () => reject(new Error(`The ${kind} client ended too early: ${this.#complaints}`)));
    });
    this.#finished.catch(() => {});
  }

  /** Resolves when the first answers have come. */
  static async start(
    lab: Lab,
    kind: ClientKind,
    target: { host: string; port: number },
    connections: number,
    more: string[] = [],
  ): Promise<Clients> {
    const where = [target.host, String(target.port), String(connections)];
    const argv = [process.execPath, "--disable-warning=ExperimentalWarning", PROGRAM, kind, ...where, ...more];
    const clients = new Clients(kind, await lab.spawnInClient(argv, { stdio: ["pipe", "pipe", "pipe"] }));
    await clients.goOn();
    return clients;
  }

  /** Waits until some more answers have come; fails at once when one was wrong. */
  async goOn(): Promise<void> {
    const from = this.#last.turns;
    await eventually(`the ${this.kind} clients are answered`, () => {
      if (this.#last.findings.length > 0) throw new Hopeless(this.#last.findings.join("; "));
      if (this.#child.exitCode !== null) throw new Hopeless(`The ${this.kind} client has ended ${this.#complaints}`);
      return this.#last.turns >= from + TURNS_SEEN;
    });
  }

  /** The last answers, and a look for everything that was acknowledged. */
  async stop(): Promise<ClientResult> {
    this.#child.stdin!.end();
    return this.#finished;
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }
}
