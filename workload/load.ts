/**
 * As many SETs as the server takes: every connection keeps `pipeline` requests in flight, random keys out of a fixed
 * set, random values. All buffers are made beforehand and replies are only counted, so that the generator leaves the
 * processor to the server (two cores serve everything here).
 */
import { randomFillSync } from "node:crypto";
import { connect as connectSocket, type Socket } from "node:net";
import { GapRecorder, type WindowSummary } from "./gaps.ts";
import { Histogram } from "./histogram.ts";
import type { FillOptions, FillResult, LoadOptions, LoadResult } from "./messages.ts";
import { type Address, ConnectionBroken } from "./redis-client.ts";

const KEY_DIGITS = 12;
const POOL_BYTES = 4 << 20;
const SLICE_MS = 100;
const NEWLINE = 10;
const MINUS = 45;

/** Six random bits a byte, printable, as redis-benchmark's own values are. */
function randomPool(): Buffer {
  const pool = randomFillSync(Buffer.allocUnsafe(POOL_BYTES));
  for (let i = 0; i < pool.length; i++) pool[i] = 48 + (pool[i]! & 63);
  return pool;
}

/** A batch of SET commands whose keys and values are written in place before each sending. */
export class Batch {
  readonly bytes: Buffer;
  readonly #keysAt: number[] = [];
  readonly #valuesAt: number[] = [];
  readonly #valueBytes: number;
  readonly #pool: Buffer;

  constructor(size: number, valueBytes: number, pool: Buffer) {
    this.#valueBytes = valueBytes;
    this.#pool = pool;
    const head = `*3\r\n$3\r\nSET\r\n$${4 + KEY_DIGITS}\r\nkey:`;
    const middle = `\r\n$${valueBytes}\r\n`;
    const one = `${head}${"0".repeat(KEY_DIGITS)}${middle}${"x".repeat(valueBytes)}\r\n`;
    this.bytes = Buffer.from(one.repeat(size), "latin1");
    for (let i = 0; i < size; i++) {
      const keyAt = i * one.length + head.length;
      this.#keysAt.push(keyAt);
      this.#valuesAt.push(keyAt + KEY_DIGITS + middle.length);
    }
  }

  get size(): number {
    return this.#keysAt.length;
  }

  /** Gives each command the key with the next number and a random value. */
  prepare(nextKey: () => number): void {
    const { bytes } = this;
    const span = POOL_BYTES - this.#valueBytes;
    for (let i = 0; i < this.#keysAt.length; i++) {
      let number = nextKey();
      const keyAt = this.#keysAt[i]!;
      for (let at = keyAt + KEY_DIGITS - 1; at >= keyAt; at--) {
        bytes[at] = 48 + (number % 10);
        number = Math.floor(number / 10);
      }
      const from = Math.floor(Math.random() * span);
      this.#pool.copy(bytes, this.#valuesAt[i]!, from, from + this.#valueBytes);
    }
  }
}

interface Stream {
  socket: Socket;
  batch: Batch;
  /** Replies of the present batch still to come. */
  outstanding: number;
  sentAt: number;
  broken: boolean;
}

/** Opens one connection whose replies are counted; `onReplies(n)` gets how many came. */
function openStream(
  address: Address,
  batch: Batch,
  on: { replies(stream: Stream, count: number, errors: number): void; broken(stream: Stream, reason: string): void },
): Promise<Stream> {
  return new Promise((resolve, reject) => {
    const onread = {
      buffer: Buffer.allocUnsafe(16 * 1024),
      callback: (count: number, buffer: Uint8Array) => {
        let lines = 0;
        let errors = 0;
        for (let i = 0; i < count; i++) {
          if (buffer[i] === NEWLINE) lines++;
          // `+OK` is all a SET answers when it goes well; an error's text begins with a minus sign at a line's start.
          else if (buffer[i] === MINUS && (i === 0 || buffer[i - 1] === NEWLINE)) errors++;
        }
        on.replies(stream, lines, errors);
        return true;
      },
    };
    const socket = connectSocket({ ...address, noDelay: true, onread });
    const stream: Stream = { socket, batch, outstanding: 0, sentAt: 0, broken: false };
    const fail = (reason: string) => {
      if (stream.broken) return;
      stream.broken = true;
      on.broken(stream, reason);
      reject(new ConnectionBroken(`${address.host}:${address.port}: ${reason}`));
    };
    socket.on("connect", () => resolve(stream));
    socket.on("error", (error) => fail(error.message));
    socket.on("close", () => fail("The server closed the connection"));
  });
}

export class Load {
  readonly #options: LoadOptions;
  readonly #streams: Stream[] = [];
  readonly #batchTimes = new Histogram();
  #gaps: GapRecorder;
  #stopping = false;
  #answered = 0;
  #errors = 0;
  readonly #findings: string[] = [];
  readonly #series: number[] = [];
  #sliceBegan = 0;
  #cpuAtStart = process.cpuUsage();
  #startedAt = 0;
  #timer: NodeJS.Timeout | undefined;
  onBroken: (connection: number, reason: string) => void = () => {};

  private constructor(options: LoadOptions) {
    this.#options = options;
    this.#gaps = new GapRecorder(options.connections, 0, "start");
  }

  static async connect(options: LoadOptions): Promise<Load> {
    const load = new Load(options);
    const pool = randomPool();
    for (let i = 0; i < options.connections; i++) {
      const batch = new Batch(options.pipeline, options.valueBytes, pool);
      const stream = await openStream({ host: options.host, port: options.port }, batch, {
        replies: (of, count, errors) => load.#replies(i, of, count, errors),
        broken: (_, reason) => load.#broke(i, reason),
      });
      load.#streams.push(stream);
    }
    return load;
  }

  start(firstWindow: string): void {
    const now = performance.now();
    this.#gaps = new GapRecorder(this.#options.connections, now, firstWindow);
    this.#cpuAtStart = process.cpuUsage();
    this.#startedAt = now;
    this.#timer = setInterval(() => this.#slice(), SLICE_MS);
    for (const stream of this.#streams) this.#send(stream);
  }

  mark(name: string): WindowSummary {
    return this.#gaps.mark(name, performance.now());
  }

  takeRecentSilence(): number {
    return this.#gaps.takeRecentSilence(performance.now());
  }

  get progress(): { answered: number; broken: number; missing: number } {
    return { answered: this.#answered, broken: this.#brokenCount(), missing: 0 };
  }

  async stop(): Promise<LoadResult> {
    this.#stopping = true;
    clearInterval(this.#timer);
    const now = performance.now();
    const elapsedMs = now - this.#startedAt;
    const cpu = process.cpuUsage(this.#cpuAtStart);
    const windows = this.#gaps.finish(now, (i) => this.#streams[i]!.outstanding > 0);
    const connectionsBroken = this.#brokenCount();
    for (const stream of this.#streams) {
      stream.broken = true;
      stream.socket.destroy();
    }
    const skip = this.#series.length > 20 ? 10 : 0;
    const counted = this.#series.slice(skip);
    const perSecond =
      counted.length > 0
        ? counted.reduce((sum, n) => sum + n, 0) / ((counted.length * SLICE_MS) / 1000)
        : (this.#answered * 1000) / elapsedMs;
    return {
      answered: this.#answered,
      errorReplies: this.#errors,
      connectionsBroken,
      perSecond: Math.round(perSecond),
      series: this.#series,
      batchMs: this.#batchTimes.summary(),
      windows,
      cpuShare: Math.round((cpu.user + cpu.system) / elapsedMs / 10) / 100,
      findings: this.#findings,
    };
  }

  /** A late timer must not make a slice look longer than it was: the count is scaled to the slice's nominal length. */
  #slice(): void {
    const now = performance.now();
    const since = this.#sliceBegan === 0 ? this.#startedAt : this.#sliceBegan;
    this.#series.push(Math.round(((this.#answered - this.#countedBefore) * SLICE_MS) / (now - since)));
    this.#countedBefore = this.#answered;
    this.#sliceBegan = now;
  }
  #countedBefore = 0;

  #send(stream: Stream): void {
    const { keys } = this.#options;
    stream.batch.prepare(() => Math.floor(Math.random() * keys));
    stream.outstanding = stream.batch.size;
    stream.sentAt = performance.now();
    stream.socket.write(stream.batch.bytes);
  }

  #replies(index: number, stream: Stream, count: number, errors: number): void {
    this.#answered += count;
    if (errors > 0) {
      this.#errors += errors;
      if (this.#findings.length < 5) this.#findings.push(`connection ${index}: ${errors} error replies`);
    }
    stream.outstanding -= count;
    const now = performance.now();
    this.#gaps.answered(index, now);
    if (stream.outstanding > 0) return;
    this.#batchTimes.add(now - stream.sentAt);
    if (!this.#stopping) this.#send(stream);
  }

  #broke(index: number, reason: string): void {
    this.#findings.push(`connection ${index} broke: ${reason}`);
    this.onBroken(index, reason);
  }

  #brokenCount(): number {
    return this.#streams.filter(({ broken }) => broken).length;
  }
}

/** Writes keys 0 … keys−1 once each, over four connections. Throws ConnectionBroken, or Error when a write is refused. */
export async function fill(
  options: Omit<FillOptions, "progressMs">,
  onProgress: (written: number) => void,
): Promise<FillResult> {
  const { host, port, keys, valueBytes } = options;
  const began = performance.now();
  const pool = randomPool();
  let next = 0;
  let written = 0;
  await Promise.all(
    [0, 1, 2, 3].map(async () => {
      let done: () => void = () => {};
      let fail: (error: Error) => void = () => {};
      const finished = new Promise<void>((resolve, reject) => {
        done = resolve;
        fail = reject;
      });
      // Keys beyond the last wrap around to the first ones: the last batches need not be shorter.
      const send = (stream: Stream) => {
        if (next >= keys) return done();
        stream.batch.prepare(() => next++ % keys);
        stream.outstanding = stream.batch.size;
        stream.socket.write(stream.batch.bytes);
      };
      const stream = await openStream({ host, port }, new Batch(32, valueBytes, pool), {
        replies: (of, count, errors) => {
          if (errors > 0) return fail(new Error(`The server refused ${errors} writes while it was being filled`));
          written += count;
          onProgress(Math.min(written, keys));
          of.outstanding -= count;
          if (of.outstanding === 0) send(of);
        },
        broken: (_, reason) => fail(new ConnectionBroken(reason)),
      });
      send(stream);
      try {
        await finished;
      } finally {
        stream.broken = true;
        stream.socket.destroy();
      }
    }),
  );
  return { keys, tookMs: Math.round(performance.now() - began) };
}
