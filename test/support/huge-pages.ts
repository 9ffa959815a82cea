/**
 * Huge pages for tests, set aside for the whole machine and given back afterwards. Other tests may do the same at the same time: each
 * adds its own.
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";

const NUMBER = "/proc/sys/vm/nr_hugepages";
const LOCK = "/run/understudy-test-huge-pages";
const PATIENCE_MS = 10_000;

export const hugePagesNow = (): number => Number(readFileSync(NUMBER, "latin1"));

function locked<T>(work: () => T): T {
  const until = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      mkdirSync(LOCK);
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      assert.ok(Date.now() < until, `${LOCK} is there for ${PATIENCE_MS} ms: a test that ended half-way left it`);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
  try {
    return work();
  } finally {
    rmdirSync(LOCK);
  }
}

/** Changes how many there are; returns by how many it did. */
function change(pages: number): number {
  return locked(() => {
    const before = hugePagesNow();
    writeFileSync(NUMBER, String(Math.max(0, before + pages)));
    return hugePagesNow() - before;
  });
}

/** @returns gives them back. Fails where the kernel has none to give. */
export function setAsideHugePages(pages: number): () => void {
  const added = change(pages);
  if (added < pages) {
    change(-added);
    assert.fail(`The kernel sets aside ${added} of ${pages} huge pages: its memory is full or in pieces`);
  }
  return () => change(-pages);
}
