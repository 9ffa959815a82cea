/** Transactions on a database: each that was acknowledged is in it, all of it, and the database is whole. */
import type { Conversation } from "./conversation.ts";
import { expect } from "./conversation.ts";
import { type Target, Wire } from "./wire.ts";

/** Transactions between two looks at the whole database: so few that some client looks in the turns waited for after a failure. */
const LOOK_EVERY = 5;

export async function openLedger(target: Target, index: number): Promise<Conversation> {
  const wire = await Wire.open(target);
  const name = `client-${process.pid}-${index}`;
  let n = 0;
  const look = async () => {
    wire.write(`check ${name} ${n}\n`);
    expect(await wire.line(), `ok sum 0 rows ${n} last ${n}`, "database");
  };
  return {
    async turn() {
      wire.write(`add ${name} ${++n}\n`);
      expect(await wire.line(), String(n), "transaction");
      if (n % LOOK_EVERY === 0) await look();
    },
    verify: look,
    close: () => wire.close(),
  };
}
