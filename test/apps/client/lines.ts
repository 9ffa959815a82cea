/** A line asks, a line answers: the server counts for each name, so a question heard twice or forgotten shows. */
import type { Conversation } from "./conversation.ts";
import { expect } from "./conversation.ts";
import { type Target, Wire } from "./wire.ts";

/** "add NAME" is answered with "NAME COUNT". */
export async function openLines(target: Target, index: number): Promise<Conversation> {
  const wire = await Wire.open(target);
  const name = `client-${process.pid}-${index}`;
  let count = 0;
  return {
    async turn() {
      wire.write(`add ${name}\n`);
      expect(await wire.line(), `${name} ${++count}`, "count");
    },
    close: () => wire.close(),
  };
}
