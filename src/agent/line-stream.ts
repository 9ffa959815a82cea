/** Answers that come a document at a time: JSON lines, or server-sent events for a browser. */
import type { Context } from "hono";
import { stream } from "hono/streaming";

export type Write<T> = (document: T) => void;

/** `work`'s signal aborts when the asker has gone. The answer ends when `work` does. */
export function lineStream<T>(c: Context, work: (write: Write<T>, signal: AbortSignal) => Promise<void>): Response {
  const events = c.req.header("accept")?.includes("text/event-stream") ?? false;
  c.header("content-type", events ? "text/event-stream" : "application/x-ndjson");
  c.header("cache-control", "no-cache");
  return stream(c, async (output) => {
    const gone = new AbortController();
    output.onAbort(() => gone.abort());
    let last: Promise<unknown> = Promise.resolve();
    const write = (document: T) => {
      const text = JSON.stringify(document);
      last = output.write(events ? `data: ${text}\n\n` : `${text}\n`).catch(() => gone.abort());
    };
    await work(write, gone.signal);
    await last;
  });
}
