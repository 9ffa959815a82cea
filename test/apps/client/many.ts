/** Of workload/programs/many.c: one connection lets it look at all there is; the others ask in turn, so that nearly all are idle. */
import type { Conversation } from "./conversation.ts";
import { expect } from "./conversation.ts";
import { openLines } from "./lines.ts";
import { type Target, Wire } from "./wire.ts";

/** Connections that ask at a time. When all is over, each has had an answer since the last that happened. */
const ASKING = 8;

const waiting: Array<() => void> = [];
let free = ASKING;

async function inTurn<T>(ask: () => Promise<T>): Promise<T> {
  if (free > 0) free--;
  else await new Promise<void>((begin) => waiting.push(begin));
  try {
    return await ask();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else free++;
  }
}

/** "check" is answered with "fine COUNT" when everything is as it was left. */
async function openCheck(target: Target): Promise<Conversation> {
  const wire = await Wire.open(target);
  let count = 0;
  return {
    async turn() {
      wire.write("check\n");
      expect(await wire.line(), `fine ${++count}`, "look at everything");
    },
    close: () => wire.close(),
  };
}

export async function openMany(target: Target, index: number): Promise<Conversation> {
  if (index === 0) return openCheck(target);
  const { turn, close } = await openLines(target, index);
  return { turn: () => inTurn(turn), close };
}
