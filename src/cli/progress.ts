/** Progress on standard error, only for what takes longer than a second: one line that changes, or lines in a log. */
import type { ProtectProgress } from "../agent/api-types.ts";
import { bytes, duration, say } from "./output.ts";

const PATIENCE_MS = 1_000;
/** Where lines cannot change, a new one as often as this. */
const LOG_PERIOD_MS = 2_000;

/** Says `text` when the work takes longer than a second. */
export async function patiently<T>(text: string, work: Promise<T>): Promise<T> {
  const timer = setTimeout(() => say(`${text} …`), PATIENCE_MS);
  try {
    return await work;
  } finally {
    clearTimeout(timer);
  }
}

export class ProtectProgressPrinter {
  readonly #stream: NodeJS.WriteStream;
  readonly #startMs = performance.now();
  /** Not shown yet, for the first second is not over. */
  #waiting: ProtectProgress[] = [];
  #lineOpen = false;
  #lastLogMs = 0;

  constructor(stream: NodeJS.WriteStream = process.stderr) {
    this.#stream = stream;
  }

  show(progress: ProtectProgress): void {
    if (performance.now() - this.#startMs < PATIENCE_MS) {
      this.#waiting.push(progress);
      return;
    }
    for (const earlier of this.#waiting.filter(({ step }) => step !== "synchronising")) this.#print(earlier);
    this.#waiting = [];
    this.#print(progress);
  }

  /** Ends an open line. */
  end(): void {
    if (this.#lineOpen) this.#stream.write("\n");
    this.#lineOpen = false;
  }

  #print(progress: ProtectProgress): void {
    const { step, message, remainingBytes, totalBytes, bytesPerSecond = 0, secondsLeft } = progress;
    if (step !== "synchronising" || remainingBytes === undefined || totalBytes === undefined) {
      this.end();
      this.#stream.write(`${message}\n`);
      return;
    }
    const doneBytes = totalBytes - remainingBytes;
    const percent = totalBytes === 0 ? 100 : Math.floor((100 * doneBytes) / totalBytes);
    const left = secondsLeft === undefined ? "" : `, ${duration(secondsLeft)} left`;
    const text = `${message}: ${bytes(doneBytes)} of ${bytes(totalBytes)} (${percent} %), ${bytes(bytesPerSecond)}/s${left}`;
    if (this.#stream.isTTY) {
      this.#stream.write(`\r\x1b[2K${text}`);
      this.#lineOpen = true;
    } else if (performance.now() - this.#lastLogMs >= LOG_PERIOD_MS) {
      this.#lastLogMs = performance.now();
      this.#stream.write(`${text}\n`);
    }
  }
}
