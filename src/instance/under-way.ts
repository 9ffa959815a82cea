/** Checkpoints that were sent and not acknowledged by all, and who waits for them. */
import type { CheckpointEnd } from "../checkpoint/operations.ts";
import type { Debt } from "../replication/pace.ts";
import type { StandbyLink } from "./standby-link.ts";

interface Sent {
  epoch: number;
  begun: number;
  /** When its last byte was handed to the network. */
  sentAt: number;
  end: CheckpointEnd;
  /** Standbys whose acknowledgement is still to come. */
  waiting: Set<string>;
}

interface Request {
  resolve: (end: CheckpointEnd) => void;
  reject: (error: Error) => void;
  /** The checkpoint that serves it; undefined: the next one. */
  epoch?: number;
}

export class UnderWay {
  /** Oldest first. */
  readonly #sent: Sent[] = [];
  readonly #requests: Request[] = [];
  readonly #whenSettled: Array<() => void> = [];
  readonly #onCommitted: (epoch: number, tookUs: number) => void;

  /** @param onCommitted called when every standby has a checkpoint, with the time from its beginning */
  constructor(onCommitted: (epoch: number, tookUs: number) => void) {
    this.#onCommitted = onCommitted;
  }

  get count(): number {
    return this.#sent.length;
  }

  /** Its last byte is handed to the network. */
  add(sent: Sent): void {
    this.#sent.push(sent);
  }

  sentAt(epoch: number): number | undefined {
    return this.#sent.find((sent) => sent.epoch === epoch)?.sentAt;
  }

  debtOf({ node, link }: StandbyLink): Debt | undefined {
    const owed = this.#sent.filter(({ waiting }) => waiting.has(node));
    if (owed[0] === undefined) return undefined;
    return { since: owed[0].sentAt, bytes: owed.reduce((sum, { end }) => sum + end.bytes, link.unsentBytes) };
  }

  /** A standby is not waited for any more up to `epoch`: it has acknowledged, or is gone. */
  settle(node: string, epoch: number): void {
    for (const sent of this.#sent) if (sent.epoch <= epoch) sent.waiting.delete(node);
    while (this.#sent[0]?.waiting.size === 0) this.#settled(this.#sent.shift()!);
  }

  /** Every standby has it. */
  #settled({ epoch, begun, end }: Sent): void {
    this.#onCommitted(epoch, (performance.now() - begun) * 1000);
    for (const request of this.#requests.splice(0)) {
      if (request.epoch !== undefined && request.epoch <= epoch) request.resolve(end);
      else this.#requests.push(request);
    }
    if (this.#sent.length === 0) for (const resolve of this.#whenSettled.splice(0)) resolve();
  }

  /** Resolves when none is under way. */
  async settledAll(): Promise<void> {
    while (this.#sent.length > 0) await new Promise<void>((resolve) => this.#whenSettled.push(resolve));
  }

  /** A checkpoint is wanted; resolves when every standby has it. */
  request(): Promise<CheckpointEnd> {
    return new Promise((resolve, reject) => this.#requests.push({ resolve, reject }));
  }

  get isRequested(): boolean {
    return this.#requests.some((request) => request.epoch === undefined);
  }

  /** Requests up to now get the checkpoint of this epoch. */
  serve(epoch: number): void {
    for (const request of this.#requests) request.epoch ??= epoch;
  }

  /** The next checkpoint cannot be taken; requests that an earlier one serves wait on. */
  refuse(error: Error): void {
    for (const request of this.#requests.splice(0)) {
      if (request.epoch === undefined) request.reject(error);
      else this.#requests.push(request);
    }
  }

  close(error: Error): void {
    for (const request of this.#requests.splice(0)) request.reject(error);
  }
}
