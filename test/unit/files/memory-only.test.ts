/** Files of a file system that is in memory: what mappings write shows in no time of change. */
import * as fs from "node:fs";
import { call } from "../../../src/kernel/calls.ts";
import { inMemory, MEMORY, type Pair, same, started } from "./pair.ts";
import { writeMemory } from "./program.ts";

const BYTES = 100_000;
const READ_WRITE = 3;
const MAP_SHARED = 1;

function map(path: string): number {
  const fd = fs.openSync(path, "r+");
  const address = call("mmap", null, BYTES, READ_WRITE, MAP_SHARED, fd, 0);
  fs.closeSync(fd);
  return address;
}

const unmap = (address: number) => call("munmap", address, BYTES);
const put = (address: number, byte: number) => writeMemory(address + 50_000, Buffer.from([byte]));

async function withFile(pair: Pair): Promise<string> {
  const path = `${pair.primary.root}${MEMORY}/mapped`;
  fs.writeFileSync(path, Buffer.alloc(BYTES, 1));
  await started(pair);
  pair.cut();
  pair.capture.mappingsKnown([]);
  return path;
}

inMemory("a file in memory that is mapped, written and unmapped between two cuts", async (pair) => {
  const path = await withFile(pair);
  for (let round = 0; round < 5; round++) {
    const address = map(path);
    put(address, 10 + round);
    unmap(address);
    pair.cut();
    pair.capture.mappingsKnown([]);
    same(pair);
  }
});

inMemory("a file in memory that is written through a mapping before and after it is looked at", async (pair) => {
  const path = await withFile(pair);
  const address = map(path);
  put(address, 2);
  pair.capture.preDump(pair.emit);
  put(address, 3);
  pair.capture.preDump(pair.emit);
  put(address, 4);
  unmap(address);
  pair.cut();
});

inMemory("a file in memory that is mapped at one cut, and no more at the next", async (pair) => {
  const path = await withFile(pair);
  const address = map(path);
  put(address, 2);
  pair.cut({ mapped: [`${MEMORY}/mapped`] });
  pair.capture.mappingsKnown([`${MEMORY}/mapped`]);
  put(address, 3);
  unmap(address);
  pair.cut();
});
