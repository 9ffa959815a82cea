/** What a standby still has of an earlier clone's memory, as its primary knows it: digests, and how far it is with taking over. */
import { randomBytes } from "node:crypto";
import type { HeldByNewcomer, KeptRun } from "../checkpoint/held-pages.ts";
import { DIGEST_KEY_BYTES, KnownPages, NOT_FOUND } from "../kernel/page-digests.ts";
import type { Message } from "../replication/frames.ts";
import type { Link } from "../replication/link.ts";

/** Pieces of memory that a standby takes over at a time; each takes it some milliseconds, in which it says nothing. */
const MOST_UNTAKEN = 2;

export class HeldByStandby implements HeldByNewcomer {
  /** For the digests: a secret of this connection. */
  readonly key = randomBytes(DIGEST_KEY_BYTES);
  readonly #link: Link;
  #parts: Buffer[] = [];
  #known: KnownPages | undefined;
  #expected = false;
  #untaken = 0;
  #wake: () => void = () => {};

  constructor(link: Link) {
    this.#link = link;
  }

  /** Digests follow. */
  expect(): void {
    this.#expected = true;
  }

  hear(message: Message & { type: "held" | "took" }): void {
    if (message.type === "took") this.#untaken--;
    else if (message.digests) this.#parts.push(message.digests);
    else {
      if (this.#parts.length > 0) this.#known = new KnownPages(this.key, this.#parts.splice(0));
      this.#expected = false;
    }
    this.#wake();
  }

  /** Nobody shall wait for it any more. */
  gone(): void {
    this.#expected = false;
    this.#untaken = 0;
    this.#wake();
  }

  /** Resolves when all digests have come; whether there are any. */
  async complete(): Promise<boolean> {
    while (this.#expected) await this.#change();
    return this.#known !== undefined;
  }

  /** Resolves when the standby has not much to take over. */
  async settled(): Promise<void> {
    while (this.#untaken >= MOST_UNTAKEN) await this.#change();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  find(bytes: Buffer, pages: number): Uint32Array {
    return this.#known?.find(bytes, pages) ?? new Uint32Array(pages).fill(NOT_FOUND);
  }

  take(pid: number, runs: KeptRun[]): void {
    this.#untaken++;
    this.#link.send({ type: "operation", operation: { op: "kept", pid, runs } });
  }
}
