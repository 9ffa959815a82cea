/** JSON documents, one a line, over a stream socket: the framing of the control protocol. */
import type { Socket } from "node:net";

/** A line longer than this is no control message but a mistake; the connection ends. */
const LINE_LIMIT_BYTES = 16 * 1024 * 1024;

/** Calls `receive` for every complete line that is JSON; `fail` once, for what is not. */
export function readLines(socket: Socket, receive: (document: unknown) => void, fail: (error: Error) => void): void {
  let rest = "";
  socket.setEncoding("utf8");
  socket.on("data", (chunk: string) => {
    rest += chunk;
    let end = rest.indexOf("\n");
    if (end < 0 && rest.length > LINE_LIMIT_BYTES) return fail(new Error("A control message is too long"));
    while (end >= 0) {
      const line = rest.slice(0, end);
      rest = rest.slice(end + 1);
      end = rest.indexOf("\n");
      if (line === "") continue;
      let document: unknown;
      try {
        document = JSON.parse(line);
      } catch (cause) {
        return fail(new Error("A control message is not JSON", { cause }));
      }
      receive(document);
    }
  });
}

/** Does nothing when the other side is gone: the caller learns that from "close". */
export function writeLine(socket: Socket, document: unknown): void {
  if (!socket.destroyed && socket.writable) socket.write(`${JSON.stringify(document)}\n`);
}
