/** The other way round: the application connects to here, and what it writes must be line after line, none twice, none left out. */
import { createServer } from "node:net";
import type { Conversation } from "./conversation.ts";
import { expect } from "./conversation.ts";
import { type Target, Wire } from "./wire.ts";

/** Lines "N N²", from 1. A turn is so many of them. */
const LINES = 50;

export async function openSink({ port }: Target): Promise<Conversation> {
  const wire = await new Promise<Wire>((resolve, reject) => {
    const server = createServer((socket) => {
      server.close();
      resolve(Wire.over(socket));
    });
    server.once("error", reject).listen(port);
  });
  let n = 0;
  return {
    async turn() {
      for (let i = 0; i < LINES; i++) expect(await wire.line(), `${++n} ${n * n}`, "line");
    },
    close: () => wire.close(),
  };
}
