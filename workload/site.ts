/** A lab with a Redis in it: protected under the service address, or unprotected on a node's own address to compare with. */
import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { OperatingError } from "../src/kernel/failure.ts";
import type { Lab } from "../src/lab/lab.ts";
import { POLL_MS, type Program, ProtectedApplication } from "./application.ts";
import { fillKeys } from "./driver.ts";

export const APPLICATION = "redis";
export const SERVICE = { host: "10.77.0.10", port: 6379 };
const UNPROTECTED_PORT = 6390;
/** Of a key's value; a megabyte of data are a thousand keys, with what Redis needs besides. */
export const VALUE_BYTES = 900;
const KEYS_PER_MEGABYTE = 1000;

export const keysOf = (megabytes: number) => megabytes * KEYS_PER_MEGABYTE;

const NO_DISK = ["--save", "", "--appendonly", "no"];

function redisCommand(port: number, options: string[]): string[] {
  return ["redis-server", "--port", String(port), "--bind", "0.0.0.0", "--protected-mode", "no", ...options];
}

export class RedisSite extends ProtectedApplication {
  readonly #options: string[];

  /** @param more other keys of its specification, or others' values */
  constructor(lab: Lab, options = NO_DISK, more: Partial<Program> = {}) {
    const command = redisCommand(SERVICE.port, options);
    super(lab, { name: APPLICATION, command, address: `${SERVICE.host}/24`, ...more });
    this.#options = options;
  }

  /** Sets `megabytes` of data, every key once. */
  async fill(megabytes: number, target = SERVICE, onProgress: (share: number) => void = () => {}): Promise<void> {
    const keys = keysOf(megabytes);
    await fillKeys(this.spawn, { ...target, keys, valueBytes: VALUE_BYTES, progressMs: 1000 }, (message) => {
      if (message.event === "progress") onProgress(message.answered / keys);
    });
  }

  /** An unprotected Redis on a node's own address; it ends with the scope. */
  async unprotected(node = "node-a"): Promise<{ host: string; port: number } & AsyncDisposable> {
    const { address: host } = await this.lab.requireNode(node);
    const child = await this.lab.spawn(node, redisCommand(UNPROTECTED_PORT, this.#options), { stdio: "ignore" });
    const target = { host, port: UNPROTECTED_PORT };
    try {
      await this.#untilAnswers(target, child);
    } catch (error) {
      await kill(child);
      throw error;
    }
    return { ...target, [Symbol.asyncDispose]: () => kill(child) };
  }

  async #untilAnswers({ host, port }: { host: string; port: number }, child: ChildProcess): Promise<void> {
    for (let tries = 0; tries < 100 && child.exitCode === null; tries++) {
      const { stdout } = await this.lab.client(["redis-cli", "-h", host, "-p", String(port), "ping"]);
      if (stdout.startsWith("PONG")) return;
      await sleep(POLL_MS);
    }
    throw new OperatingError("redis-start", `The unprotected Redis at ${host}:${port} does not answer`);
  }
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await gone;
}
