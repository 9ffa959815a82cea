/** Answers that come a document at a time: JSON lines, or server-sent events for a browser. */
import type { Context } from "hono";
import { stream } from "hono/streaming";
import type { Failure } from "../kernel/failure.ts";

export type Write<T> = (document: T) => void;

const answeredKey = "whenAnswered";
const linesKey = "answersByLines";

/** `done` is called at the end of an answer by lines: with `done`, or with the code of the failure that it told. */
export function whenAnswered(c: Context, done: (result: string) => void): void {
  c.set(answeredKey, done);
}

/** Whether the answer goes on after its handler has returned. */
export function answersByLines(c: Context): boolean {
  return c.get(linesKey) === true;
}

/** `work`'s signal aborts when the asker has gone. The answer ends when `work` does. */
export function lineStream<T>(c: Context, work: (write: Write<T>, signal: AbortSignal) => Promise<void>): Response {
  const events = c.req.header("accept")?.includes("text/event-stream") ?? false;
  c.header("content-type", events ? "text/event-stream" : "application/x-ndjson");
  c.header("cache-control", "no-cache");
  c.set(linesKey, true);
  const answered = c.get(answeredKey) as ((result: string) => void) | undefined;
  let result = "done";
  return stream(c, async (output) => {
    const gone = new AbortController();
    output.onAbort(() => gone.abort());
    let last: Promise<unknown> = Promise.resolve();
    const write = (document: T) => {
      const failure = (document as { error?: Failure } | null)?.error;
      if (failure !== undefined) result = failure.code;
      const text = JSON.stringify(document);
      last = output.write(events ? `data: ${text}\n\n` : `${text}\n`).catch(() => gone.abort());
    };
    await work(write, gone.signal);
    answered?.(gone.signal.aborted && result === "done" ? "asker-gone" : result);
    await last;
  });
}
