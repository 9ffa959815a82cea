/** One stream between a primary and a standby: in order as TCP is, until it is reset. Two ends, each may believe it alone. */
import type { View } from "../cluster/spec.ts";
import type { Process } from "./process.ts";
import type { World } from "./world.ts";

export type Message =
  | { kind: "heartbeat" }
  | { kind: "greeting"; term: number; view: View; revision: number; stream: number }
  | { kind: "checkpoint"; term: number; epoch: number; full: boolean }
  | { kind: "acknowledge"; term: number; epoch: number }
  | { kind: "restart"; term: number; older: boolean }
  | { kind: "view"; view: View; revision: number }
  | { kind: "goodbye" };

export class Stream {
  readonly #world: World;
  readonly ends: readonly [StreamEnd, StreamEnd];

  constructor(world: World, primary: Process, standby: Process) {
    this.#world = world;
    const a = new StreamEnd(this, primary, standby.node.name);
    const b = new StreamEnd(this, standby, primary.node.name);
    this.ends = [a, b];
  }

  other(end: StreamEnd): StreamEnd {
    return end === this.ends[0] ? this.ends[1] : this.ends[0];
  }

  send(from: StreamEnd, message: Message): void {
    if (from.closed) return;
    const { faults, random, agenda } = this.#world;
    if (faults.strikes("streamReset")) {
      this.reset();
      return;
    }
    // Acknowledgements may be repeated and overtake each other; the machine must not mind.
    const loose = message.kind === "acknowledge";
    const delay = faults.strikes("messageDelayed") ? random.between(20, 300) : random.between(0.2, 3);
    if (loose && faults.strikes("messageReordered")) {
      agenda.after(delay + random.between(1, 60), () => this.#arrive(from, message));
    } else {
      from.busyUntil = Math.max(from.busyUntil, agenda.now + delay);
      agenda.after(from.busyUntil - agenda.now, () => this.#arrive(from, message));
    }
    if (loose && faults.strikes("messageDuplicated")) {
      agenda.after(delay + random.between(1, 200), () => this.#arrive(from, message));
    }
  }

  /** Both ends learn of it, each in its time, if nothing is cut. */
  reset(): void {
    for (const end of this.ends) this.#world.agenda.after(this.#world.random.between(0.2, 5), () => this.#learn(end));
  }

  /** One end closes; the other learns of it. */
  close(end: StreamEnd): void {
    if (end.closed) return;
    end.closed = true;
    const other = this.other(end);
    const at = Math.max(end.busyUntil, this.#world.agenda.now) + 1 - this.#world.agenda.now;
    this.#world.agenda.after(at, () => this.#learn(other));
  }

  #learn(end: StreamEnd): void {
    if (end.closed) return;
    if (this.#world.isCut(end.peer, end.process.node.name)) {
      this.#world.agenda.after(40, () => this.#learn(end));
      return;
    }
    end.closed = true;
    end.process.run(() => end.process.streamClosed(end));
  }

  #arrive(from: StreamEnd, message: Message): void {
    from.stalled.push(message);
    if (from.stalled.length === 1) this.#deliver(from);
  }

  /** What a cut holds up gets through later, in order. */
  #deliver(from: StreamEnd): void {
    const to = this.other(from);
    if (this.#world.isCut(from.process.node.name, to.process.node.name)) {
      if (!to.closed) this.#world.agenda.after(40, () => this.#deliver(from));
      return;
    }
    for (const message of from.stalled.splice(0)) {
      to.process.run(() => {
        if (!to.closed) to.process.received(to, message);
      });
    }
  }
}

export class StreamEnd {
  closed = false;
  busyUntil = 0;
  busyApplying = 0;
  /** Sent, and held up by a cut. */
  readonly stalled: Message[] = [];
  /** Primary's end: a full checkpoint is due, or was sent. */
  sync: "none" | "due" | "sent" = "none";
  /** Standby's end: what follows belongs to a synchronisation that was accepted. */
  accepted = false;
  goodbye = false;
  readonly stream: Stream;
  readonly process: Process;
  readonly peer: string;

  constructor(stream: Stream, process: Process, peer: string) {
    this.stream = stream;
    this.process = process;
    this.peer = peer;
  }

  send(message: Message): void {
    this.stream.send(this, message);
  }

  close(): void {
    this.stream.close(this);
  }
}
