/** memcached's text protocol: every acknowledged value is read back at its next overwriting, and at the end. */
import type { Conversation } from "./conversation.ts";
import { expect } from "./conversation.ts";
import { type Target, Wire } from "./wire.ts";

const SLOTS = 200;

export async function openMemcached(target: Target, index: number): Promise<Conversation> {
  const wire = await Wire.open(target);
  const key = (slot: number) => `client-${process.pid}-${index}-${slot}`;
  const value = (number: number) => `${index}-${number}-`.padEnd(100 + (number % 900), "x");
  const acknowledged = new Map<number, number>();
  let number = 0;

  const read = async (slot: number) => {
    wire.write(`get ${key(slot)}\r\n`);
    const head = await wire.line();
    const wanted = value(acknowledged.get(slot)!);
    expect(head, `VALUE ${key(slot)} 0 ${wanted.length}`, key(slot));
    expect(await wire.line(), wanted, key(slot));
    expect(await wire.line(), "END", key(slot));
  };

  wire.write(`set client-${process.pid}-${index}-count 0 0 1\r\n0\r\n`);
  expect(await wire.line(), "STORED", "count");
  return {
    async turn() {
      const slot = ++number % SLOTS;
      if (acknowledged.has(slot)) await read(slot);
      const text = value(number);
      wire.write(`set ${key(slot)} 0 0 ${text.length}\r\n${text}\r\n`);
      expect(await wire.line(), "STORED", key(slot));
      acknowledged.set(slot, number);
      wire.write(`incr client-${process.pid}-${index}-count 1\r\n`);
      expect((await wire.line()).trim(), String(number), "count");
    },
    async verify() {
      for (const slot of acknowledged.keys()) await read(slot);
    },
    close: () => wire.close(),
  };
}
