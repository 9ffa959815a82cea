/** A process's table of descriptors is filled exactly, and never has more in it than wanted and the handle. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { placing, type Wanted } from "../../../src/clone/descriptors.ts";
import { O_CLOEXEC } from "../../../src/kernel/files.ts";

const HANDLE = 4;
const MOST = 40;
type Slot = { source: number | "handle"; closeOnExec: boolean };

/** As the kernel does it: a new descriptor gets the lowest number that is free. Returns what is there, and the most that was. */
function play({ calls, numbers }: ReturnType<typeof placing>, table: Map<number, Slot>): number {
  let most = 0;
  for (const [i, [name, ...args]] of calls.entries()) {
    const [a, b, c] = args as [number, number, number];
    if (name === "pidfd_getfd") {
      assert.equal(table.get(a)?.source, "handle", "Fetched by the handle");
      let free = 0;
      while (table.has(free)) free++;
      table.set(free, { source: b, closeOnExec: true });
      assert.equal(free, numbers.get(i));
    } else if (name === "dup3") {
      assert.notEqual(a, b);
      table.set(b, { source: table.get(a)!.source, closeOnExec: c === O_CLOEXEC });
    } else if (name === "fcntl") table.set(a, { ...table.get(a)!, closeOnExec: false });
    else if (name === "close") assert.ok(table.delete(a));
    else if (name === "close_range") {
      for (const fd of table.keys()) if (fd >= a && fd <= b) table.delete(fd);
    } else assert.fail(`${name} is not expected`);
    if (name !== "close_range" && i > 2) most = Math.max(most, table.size);
  }
  return most;
}

const slots = fc.uniqueArray(fc.record({ fd: fc.nat(MOST), source: fc.nat(9), closeOnExec: fc.boolean() }), {
  selector: ({ fd }) => fd,
});

test("each descriptor comes to its number, whatever was there, with room for one more at most", () => {
  fc.assert(
    fc.property(slots, fc.uniqueArray(fc.nat(MOST)), (wanted: Wanted[], left) => {
      const table = new Map<number, Slot>(left.map((fd) => [fd, { source: -1, closeOnExec: false }]));
      table.set(HANDLE, { source: "handle", closeOnExec: true });
      const most = play(placing(wanted, HANDLE), table);
      const expected = new Map(wanted.map(({ fd, source, closeOnExec }) => [fd, { source, closeOnExec }]));
      assert.deepEqual(table, expected);
      const dense = wanted.every(({ fd }) => fd < wanted.length);
      assert.ok(most <= wanted.length + (dense ? 1 : 2), `${most} at a time for ${wanted.length}`);
    }),
  );
});

test("a table that is full from 0 on needs one number more, for the handle", () => {
  const wanted = Array.from({ length: MOST }, (_, fd) => ({ fd, source: fd, closeOnExec: fd % 2 === 0 }));
  const table = new Map<number, Slot>([[HANDLE, { source: "handle", closeOnExec: true }]]);
  const { calls, numbers } = placing(wanted, HANDLE);
  assert.equal(play({ calls, numbers }, table), MOST + 1);
  assert.ok(calls.every(([name, fd, to]) => name === "pidfd_getfd" || fd! <= MOST || to! > MOST));
  assert.equal(table.size, MOST);
});
