/** Which resources changed since the checkpoint before. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Resource } from "../../../src/checkpoint/operations.ts";
import { States } from "../../../src/checkpoint/states.ts";

const resource = (value: unknown): Resource => ({ kind: "test", version: 1, state: value });
const set = fc
  .dictionary(fc.constantFrom("a", "b", "c", "d"), fc.oneof(fc.nat(3), fc.constant(null), fc.string({ maxLength: 2 })))
  .map((entries) => new Map(Object.entries(entries).map(([key, value]) => [key, resource(value)])));

test("base and increments are the whole", () => {
  fc.assert(
    fc.property(fc.array(set), (epochs) => {
      const states = new States();
      const clone = new Map<string, Resource>();
      for (const now of epochs) {
        const { changed, gone } = states.advance([now]);
        for (const [key, value] of changed) clone.set(key, value);
        for (const key of gone) assert.ok(clone.delete(key));
        assert.deepEqual(new Map([...clone].sort()), new Map([...now].sort()));
      }
    }),
  );
});

test("equal sets have no difference, whatever the order; buffers count by content", () => {
  const states = new States();
  const one = resource({ bytes: Buffer.from("x"), n: 1 });
  states.advance([
    new Map([
      ["a", one],
      ["b", resource(2)],
    ]),
  ]);
  const again = resource({ bytes: Buffer.from("x"), n: 1 });
  assert.deepEqual(
    states.advance([
      new Map([
        ["b", resource(2)],
        ["a", again],
      ]),
    ]),
    { changed: [], gone: [] },
  );
});

test("after a reset everything is new and nothing is gone", () => {
  const states = new States();
  states.advance([new Map([["a", resource(1)]])]);
  states.reset();
  assert.deepEqual(states.advance([new Map([["b", resource(1)]])]), { changed: [["b", resource(1)]], gone: [] });
});

test("of groups that are the same objects nothing is asked; keys may move from one group to another", () => {
  const states = new States();
  const untouched = {
    get state(): unknown {
      throw new Error("Nobody should look");
    },
  } as unknown as Resource;
  const quiet = new Map([["quiet", resource(0)]]);
  states.advance([quiet, new Map([["a", resource(1)]]), new Map([["b", resource(2)]])]);
  quiet.set("quiet", untouched);
  const { changed, gone } = states.advance([quiet, new Map([["b", resource(2)]]), new Map([["c", resource(3)]])]);
  assert.deepEqual(changed, [["c", resource(3)]]);
  assert.deepEqual(gone, ["a"]);
  const moved = states.advance([quiet, new Map([["c", resource(3)]]), new Map([["b", resource(2)]])]);
  assert.deepEqual(moved, { changed: [], gone: [] });
});
