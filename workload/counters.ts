/**
 * Clients that can tell whether anything they were told is lost. Each connection writes numbered values into a ring of
 * keys of its own. `SET … GET` answers with the value it replaces, so **every** acknowledged write is checked exactly
 * once more: when its key is written again, or at the end; a write done twice shows as well. Between two writes
 * the connection reads back what it wrote last.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { GapRecorder, type WindowSummary } from "./gaps.ts";
import { Histogram } from "./histogram.ts";
import type { CounterOptions, CounterResult } from "./messages.ts";
import { RedisClient } from "./redis-client.ts";
import { ErrorReply, type Reply } from "./resp.ts";

const FINDINGS_KEPT = 20;
/** The content of a key is not known: never written, already reported, or its last write was not answered. */
const UNKNOWN = -1;
const ABSENT = -2;

interface Connection {
  index: number;
  client: RedisClient;
  /** The last acknowledged number of each slot. */
  acknowledged: Int32Array;
  next: number;
  /** The number that was sent and not answered yet: it may be there or not. */
  inFlight: number | undefined;
  waiting: boolean;
  broken: string | undefined;
}

export class Counters {
  readonly #options: CounterOptions;
  readonly #run = randomBytes(4).toString("hex");
  readonly #connections: Connection[] = [];
  readonly #answers = new Histogram();
  #gaps: GapRecorder;
  #stopping = false;
  #loops: Promise<void>[] = [];
  #written = 0;
  #missing = 0;
  #unverified = 0;
  #unexpected = 0;
  #reads = 0;
  #errors = 0;
  readonly #findings: string[] = [];
  onFinding: (text: string) => void = () => {};
  onBroken: (connection: number, reason: string) => void = () => {};

  private constructor(options: CounterOptions) {
    this.#options = options;
    this.#gaps = new GapRecorder(options.connections, performance.now(), "start");
  }

  /** Opens all connections; throws ConnectionBroken when one cannot be opened. */
  static async connect(options: CounterOptions): Promise<Counters> {
    const counters = new Counters(options);
    for (let index = 0; index < options.connections; index++) {
      const client = await RedisClient.connect(options);
      const acknowledged = new Int32Array(options.slots).fill(ABSENT);
      const connection: Connection = {
        index,
        client,
        acknowledged,
        next: 0,
        inFlight: undefined,
        waiting: false,
        broken: undefined,
      };
      client.onBroken((reason) => counters.#break(connection, reason.message));
      counters.#connections.push(connection);
    }
    return counters;
  }

  start(firstWindow: string): void {
    this.#gaps = new GapRecorder(this.#options.connections, performance.now(), firstWindow);
    this.#loops = this.#connections.map((connection) => this.#write(connection));
  }

  mark(name: string): WindowSummary {
    return this.#gaps.mark(name, performance.now());
  }

  takeRecentSilence(): number {
    return this.#gaps.takeRecentSilence(performance.now());
  }

  get progress(): { answered: number; broken: number; missing: number } {
    return { answered: this.#written + this.#reads, broken: this.#broken().length, missing: this.#missing };
  }

  /** Waits for the last answers, then looks for every acknowledged write once more. */
  async stop(): Promise<CounterResult> {
    this.#stopping = true;
    await Promise.race([Promise.all(this.#loops), sleep(this.#options.drainMs, undefined, { ref: false })]);
    const windows = this.#gaps.finish(performance.now(), (index) => this.#connections[index]!.waiting);
    for (const connection of this.#connections) {
      if (connection.waiting) this.#break(connection, `No answer within ${this.#options.drainMs} ms after the end`);
    }
    await Promise.all(this.#connections.map((connection) => this.#verify(connection)));
    for (const { client } of this.#connections) client.close();
    return {
      connections: this.#connections.length,
      connectionsBroken: this.#broken().length,
      writesAcknowledged: this.#written,
      writesMissing: this.#missing,
      writesUnverified: this.#unverified,
      valuesUnexpected: this.#unexpected,
      readsVerified: this.#reads,
      errorReplies: this.#errors,
      answerMs: this.#answers.summary(),
      windows,
      findings: this.#findings,
    };
  }

  async #write(connection: Connection): Promise<void> {
    const { slots, paceMs } = this.#options;
    try {
      while (!this.#stopping && connection.broken === undefined) {
        const number = connection.next++;
        const slot = number % slots;
        const key = this.#key(connection, slot);
        connection.inFlight = number;
        const old = await this.#ask(connection, "SET", key, this.#value(connection, number), "GET");
        connection.inFlight = undefined;
        if (old instanceof ErrorReply) {
          this.#refused(connection, old);
          connection.acknowledged[slot] = UNKNOWN;
        } else {
          this.#judge(connection, slot, old, "replaced");
          connection.acknowledged[slot] = number;
          this.#written++;
        }
        if (paceMs > 0) await this.#pause(connection, paceMs);
        if (this.#stopping) break;
        const read = await this.#ask(connection, "GET", key);
        if (read instanceof ErrorReply) this.#refused(connection, read);
        else this.#judge(connection, slot, read, "read back");
        this.#reads++;
        if (paceMs > 0) await this.#pause(connection, paceMs);
      }
    } catch {
      // The connection broke; onBroken has told so.
    }
  }

  async #ask(connection: Connection, ...words: string[]): Promise<Reply> {
    const askedAt = performance.now();
    connection.waiting = true;
    const reply = await connection.client.ask(...words);
    const now = performance.now();
    connection.waiting = false;
    this.#answers.add(now - askedAt);
    this.#gaps.answered(connection.index, now);
    return reply;
  }

  async #pause(connection: Connection, paceMs: number): Promise<void> {
    await sleep(paceMs);
    this.#gaps.asked(connection.index, performance.now());
  }

  /** Compares what the server holds with what it said it holds; reports a difference once. */
  #judge(connection: Connection, slot: number, found: Reply, when: string): void {
    const expected = connection.acknowledged[slot]!;
    if (expected === UNKNOWN) return;
    const wanted = expected === ABSENT ? null : this.#value(connection, expected);
    if (found === wanted) return;
    const number = this.#numberIn(connection, found);
    const text = `key ${this.#key(connection, slot)} when ${when}: expected write ${expected === ABSENT ? "none" : expected}, found ${number ?? JSON.stringify(found)?.slice(0, 60)}`;
    connection.acknowledged[slot] = UNKNOWN;
    // Something older, nothing, or foreign in place of an acknowledged write: that write is gone.
    if (expected !== ABSENT && !(number !== undefined && number > expected)) this.#missing++;
    else this.#unexpected++;
    this.#find(text);
  }

  /** Looks for the last acknowledged write of every slot, over the same connection while it lives. */
  async #verify(connection: Connection): Promise<void> {
    const alive = connection.broken === undefined;
    let client: RedisClient | undefined;
    try {
      client = alive ? connection.client : await RedisClient.connect(this.#options, 3000);
      const late = sleep(this.#options.drainMs, "late" as const, { ref: false });
      if ((await Promise.race([this.#lookFor(connection, client), late])) === "late") {
        throw new Error(`no answer within ${this.#options.drainMs} ms`);
      }
    } catch (error) {
      this.#unverified += connection.acknowledged.filter((number) => number >= 0).length;
      this.#find(`connection ${connection.index}: its writes could not be looked for: ${String(error)}`);
      this.#break(connection, String(error));
    } finally {
      client?.close();
    }
  }

  async #lookFor(connection: Connection, client: RedisClient): Promise<void> {
    const { acknowledged, inFlight } = connection;
    const slots = [...acknowledged.keys()].filter((slot) => acknowledged[slot]! >= 0);
    const found = await Promise.all(slots.map((slot) => client.call("GET", this.#key(connection, slot))));
    for (const [i, slot] of slots.entries()) {
      // What was in flight when the connection broke may be there or not: both are right.
      const unanswered = inFlight !== undefined && inFlight % this.#options.slots === slot;
      if (unanswered && found[i] === this.#value(connection, inFlight)) continue;
      this.#judge(connection, slot, found[i]!, "looked for at the end");
    }
  }

  #refused(connection: Connection, reply: ErrorReply): void {
    this.#errors++;
    this.#find(`connection ${connection.index}: error reply ${JSON.stringify(reply.message)}`);
  }

  #break(connection: Connection, reason: string): void {
    if (connection.broken !== undefined) return;
    connection.broken = reason;
    this.#find(`connection ${connection.index} broke: ${reason}`);
    this.onBroken(connection.index, reason);
  }

  #broken(): Connection[] {
    return this.#connections.filter(({ broken }) => broken !== undefined);
  }

  #find(text: string): void {
    if (this.#findings.length >= FINDINGS_KEPT) return;
    this.#findings.push(text);
    this.onFinding(text);
  }

  #key(connection: Connection, slot: number): string {
    return `counter:${this.#run}:${connection.index}:${slot}`;
  }

  #value(connection: Connection, number: number): string {
    return `${this.#run}:${connection.index}:${number}:`.padEnd(this.#options.valueBytes, String(number % 10));
  }

  #numberIn(connection: Connection, found: Reply): number | undefined {
    if (typeof found !== "string") return undefined;
    const match = /^([0-9a-f]+):(\d+):(\d+):/.exec(found);
    if (match === null || match[1] !== this.#run || Number(match[2]) !== connection.index) return undefined;
    return Number(match[3]);
  }
}
