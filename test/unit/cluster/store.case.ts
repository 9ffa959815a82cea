/** What every cluster store must do, run against each implementation. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Change, ClusterStore } from "../../../src/cluster/store.ts";

export interface StoreCase {
  name: string;
  /** Opens the same store again and again, as several processes would. */
  open: () => Promise<ClusterStore>;
  /** A reason skips the suite, and is shown. */
  skip?: string | undefined;
}

async function eventually(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 5000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, `never came: ${what}`);
    await sleep(5);
  }
}

export function storeSuite({ name, open, skip }: StoreCase): void {
  describe(`cluster store: ${name}`, skip === undefined ? {} : { skip }, () => {
    const opened: ClusterStore[] = [];
    const begin = async () => {
      const store = await open();
      opened.push(store);
      return store;
    };
    // Every test has keys of its own, so that one store may serve all.
    let counter = 0;
    const fresh = () => `test-${process.pid}-${++counter}/`;

    test("a key is made once, read by others, changed only at its revision", async () => {
      const [a, b, key] = [await begin(), await begin(), `${fresh()}view`];
      assert.equal(await a.get(key), undefined);
      const made = await a.compareAndSwap(key, 0, { term: 1, inSync: ["b"] });
      assert.ok(made.ok);
      assert.deepEqual(await b.get(key), { value: { term: 1, inSync: ["b"] }, revision: made.revision });
      assert.deepEqual(await b.compareAndSwap(key, 0, "second"), { ok: false, current: await a.get(key) });
      const changed = await b.compareAndSwap(key, made.revision, ["any", "JSON", null, 1.5]);
      assert.ok(changed.ok && changed.revision > made.revision);
      assert.deepEqual(await a.compareAndSwap(key, made.revision, 3), { ok: false, current: await b.get(key) });
      assert.deepEqual((await a.get(key))?.value, ["any", "JSON", null, 1.5]);
    });

    test("a deleted key is gone, and its revision never comes back", async () => {
      const [a, key] = [await begin(), `${fresh()}x`];
      const first = await a.compareAndSwap(key, 0, 1);
      assert.ok(first.ok);
      assert.equal((await a.delete(key, first.revision + 1)).ok, false);
      assert.deepEqual(await a.delete(key, first.revision), { ok: true });
      assert.equal(await a.get(key), undefined);
      assert.deepEqual(await a.delete(key, first.revision), { ok: false, current: undefined });
      assert.deepEqual(await a.compareAndSwap(key, first.revision, 1), { ok: false, current: undefined });
      const second = await a.compareAndSwap(key, 0, 1);
      assert.ok(second.ok && second.revision > first.revision);
    });

    test("a list holds exactly the keys with the prefix, in order", async () => {
      const [a, prefix] = [await begin(), fresh()];
      for (const key of ["b", "a", "a/b", "A%_*?[", "ä"]) await a.compareAndSwap(prefix + key, 0, key);
      await a.compareAndSwap(`${prefix.slice(0, -1)}0`, 0, "neighbour");
      const entries = await a.list(prefix);
      assert.deepEqual(
        entries.map((entry) => entry.key.slice(prefix.length)),
        ["A%_*?[", "a", "a/b", "b", "ä"],
      );
      assert.ok(entries.every((entry) => entry.key === prefix + entry.value && entry.revision > 0));
      assert.equal((await a.list(`${prefix}a`)).length, 2);
      assert.deepEqual(await a.list(fresh()), []);
    });

    test("of many who swap at once one wins, and no increment is lost", async () => {
      const [a, b, key] = [await begin(), await begin(), `${fresh()}counter`];
      await a.compareAndSwap(key, 0, 0);
      const increment = async (store: ClusterStore): Promise<void> => {
        for (;;) {
          const found = await store.get<number>(key);
          if ((await store.compareAndSwap(key, found!.revision, found!.value + 1)).ok) return;
        }
      };
      await Promise.all(Array.from({ length: 40 }, (_, index) => increment(index % 2 ? a : b)));
      assert.equal((await a.get(key))?.value, 40);
    });

    test("a watcher learns what is there and every last state, by whomever", async () => {
      const [a, b, prefix] = [await begin(), await begin(), fresh()];
      const there = await a.compareAndSwap(`${prefix}there`, 0, "before");
      const gone = await a.compareAndSwap(`${prefix}gone`, 0, "x");
      assert.ok(there.ok && gone.ok);
      await a.delete(`${prefix}gone`, gone.revision);
      const seen: Change[] = [];
      const controller = new AbortController();
      a.watch(prefix, (change) => seen.push(change), controller.signal);
      await eventually(() => seen.length === 1, "the present");
      assert.deepEqual(seen[0], { key: `${prefix}there`, value: "before", revision: there.revision });
      // By another process, by this one, and beside the prefix.
      const other = await b.compareAndSwap(`${prefix}new`, 0, 1);
      await b.compareAndSwap(fresh(), 0, "unrelated");
      const own = await a.compareAndSwap(`${prefix}there`, there.revision, "after");
      assert.ok(other.ok && own.ok);
      await eventually(() => seen.some((change) => change.revision === own.revision), "own change");
      await b.delete(`${prefix}new`, other.revision);
      await eventually(() => seen.at(-1)?.key === `${prefix}new` && seen.at(-1)?.value === undefined, "deletion");
      const revisions = seen.map((change) => change.revision);
      assert.deepEqual(
        revisions,
        [...new Set(revisions)].sort((x, y) => x - y),
        "in order, none twice",
      );
      controller.abort();
      const length = seen.length;
      await b.compareAndSwap(`${prefix}late`, 0, 1);
      await sleep(120);
      assert.equal(seen.length, length, "silent after the abort");
    });

    test("a closed store answers with an operating error", async () => {
      const a = await begin();
      a.close();
      await assert.rejects(a.get("x"), { code: "store-unreachable" });
      await assert.rejects(a.compareAndSwap("x", 0, 1), { code: "store-unreachable" });
    });

    test("close", () => {
      for (const store of opened) store.close();
    });
  });
}
