import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { openStore } from "../../../src/cluster/open.ts";
import { SqliteStore } from "../../../src/cluster/sqlite.ts";
import { eventually } from "../../support/eventually.ts";
import { storeSuite } from "./store.case.ts";

const directory = mkdtempSync(join(tmpdir(), "understudy-store-"));
after(() => rmSync(directory, { recursive: true }));

storeSuite({ name: "SQLite", open: () => openStore(`sqlite:${directory}/suite/store.db`) });

test("processes killed in the middle of their changes leave a sound store", async () => {
  const path = join(directory, "killed.db");
  const store = await openStore(`sqlite:${path}`);
  await store.compareAndSwap("counter", 0, { sum: 0, parts: [0, 0] });
  const worker = (part: number): ChildProcess =>
    spawn(
      process.execPath,
      [
        "--input-type=module",
        "--eval",
        `import { openStore } from ${JSON.stringify(new URL("../../../src/cluster/open.ts", import.meta.url).href)};
         const store = await openStore("sqlite:${path}");
         for (;;) {
           const { value, revision } = await store.get("counter");
           const parts = value.parts.with(${part}, value.parts[${part}] + 1);
           await store.compareAndSwap("counter", revision, { sum: value.sum + 1, parts });
         }`,
      ],
      { stdio: "ignore" },
    );
  for (let round = 0; round < 3; round++) {
    const parts = async () => (await store.get<{ parts: number[] }>("counter"))!.value.parts;
    const before = await parts();
    const workers = [worker(0), worker(1)];
    await eventually("both have changed it", async () => (await parts()).every((part, i) => part > before[i]! + round));
    for (const child of workers) {
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    }
    const found = await store.get<{ sum: number; parts: number[] }>("counter");
    assert.equal(found!.value.sum, found!.value.parts[0]! + found!.value.parts[1]!);
  }
  store.close();
});

test("a file that is no store, that vanished or was replaced is told, and served again when it is back", async () => {
  const broken = join(directory, "broken.db");
  writeFileSync(broken, "no database at all, whatever its name says".repeat(100));
  await assert.rejects(openStore(`sqlite:${broken}`), { code: "store-unreachable" });

  const path = join(directory, "moved.db");
  const store = await openStore(`sqlite:${path}`);
  const made = await store.compareAndSwap("a", 0, 1);
  const seen: unknown[] = [];
  store.watch("a", (change) => seen.push(change.value), AbortSignal.timeout(10_000));
  renameSync(path, `${path}.away`);
  for (const suffix of ["-wal", "-shm"]) renameSync(path + suffix, `${path}.away${suffix}`);
  await assert.rejects(store.get("a"), { code: "store-unreachable" });
  const usurper = await openStore(`sqlite:${path}`);
  await assert.rejects(store.compareAndSwap("a", 0, 2), { code: "store-unreachable" });
  usurper.close();
  renameSync(`${path}.away`, path);
  for (const suffix of ["-wal", "-shm"]) {
    try {
      renameSync(`${path}.away${suffix}`, path + suffix);
    } catch {
      // Closing the last connection writes the log back and removes it.
    }
  }
  assert.deepEqual(await store.get("a"), { value: 1, revision: made.ok ? made.revision : 0 });
  await store.compareAndSwap("a", 1, 3);
  await eventually("the watch tells of the change", () => seen.at(-1) === 3);
  store.close();
});

test("a locked store is waited for without blocking, then told", async () => {
  const path = join(directory, "locked.db");
  const holder = new SqliteStore(path);
  const store = new SqliteStore(path, { timeoutMs: 150 });
  await holder.open();
  await store.open();
  const { DatabaseSync } = await import("node:sqlite");
  const database = new DatabaseSync(path);
  database.exec("BEGIN IMMEDIATE");
  let turns = 0;
  const turning = setInterval(() => turns++, 5);
  await assert.rejects(store.compareAndSwap("a", 0, 1), { code: "store-unreachable" });
  clearInterval(turning);
  assert.ok(turns > 5, `the event loop turned ${turns} times`);
  const pending = holder.compareAndSwap("a", 0, 2);
  database.exec("ROLLBACK");
  assert.equal((await pending).ok, true);
  database.close();
  store.close();
  holder.close();
});

test("a URL that names no store", async () => {
  await assert.rejects(openStore("mysql://localhost"), { code: "store-url-invalid" });
});
