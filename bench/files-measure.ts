/** What the file log and its cut cost by themselves: in a directory of this machine, without a cluster around them. */
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileCapture, openLog } from "../src/files/capture.ts";
import type { FileOperation } from "../src/files/change.ts";
import { Status } from "../src/kernel/files.ts";
import { median } from "../workload/checkpoint-samples.ts";

const BLOCK = 4096;
const FILE_BYTES = 64 << 20;
const SMALL_WRITE = 512;
const LARGE_WRITE = 64 << 10;
const IDLE_BYTES = 1 << 30;
const IDLE_FILES = 100_000;
const IN_A_DIRECTORY = 1000;

export interface LogCost {
  /** What the log adds to a small write, microseconds; the medians of many turns with and without it. */
  perWriteUs: number;
  /** Throughput of large writes with the log, of that without. */
  throughput: number;
}

/** Followed or not, by turns (without, with, with, without), as the machine may be busier at one time than at another. */
export function measureLog(turns: number): LogCost {
  const directory = mkdtempSync(join(tmpdir(), "understudy-bench-"));
  const { log, missing } = openLog(directory);
  const fd = openSync(join(directory, "file"), "w+");
  try {
    if (!log) throw new Error(missing);
    const status = new Status();
    status.read(fd, "");
    const { inode } = status;
    writeAll(fd, LARGE_WRITE, FILE_BYTES);
    const times = {
      without: { small: [] as number[], large: [] as number[] },
      with: { small: [] as number[], large: [] as number[] },
    };
    for (let turn = 0; turn < 4 * turns; turn++) {
      const way = turn % 4 === 0 || turn % 4 === 3 ? times.without : times.with;
      if (way === times.with) log.follow(inode);
      else log.unfollow(inode);
      way.small.push(writeAll(fd, SMALL_WRITE, FILE_BYTES / 8));
      way.large.push(writeAll(fd, LARGE_WRITE, FILE_BYTES));
      log.take(false);
    }
    const of = (list: number[]) => median(list.toSorted((a, b) => a - b));
    const writes = FILE_BYTES / 8 / SMALL_WRITE;
    return {
      perWriteUs: ((of(times.with.small) - of(times.without.small)) * 1000) / writes,
      throughput: of(times.without.large) / of(times.with.large),
    };
  } finally {
    closeSync(fd);
    log?.close();
    rmSync(directory, { recursive: true });
  }
}

/** Milliseconds for one pass over the file in writes of that size. */
function writeAll(fd: number, size: number, total: number): number {
  const bytes = Buffer.alloc(size, 1);
  const began = performance.now();
  for (let at = 0; at < total; at += size) writeSync(fd, bytes, 0, size, at);
  return performance.now() - began;
}

export interface CutCost {
  /** Milliseconds in the stop when one block of one file has changed: alone, and with 1 GB and 100,000 files beside it. */
  aloneMs: number;
  amongManyMs: number;
  /** Bytes of content that checkpoints carry, of those that random block writes changed. */
  sentShare: number;
}

export async function measureCut(cuts: number, idle = { bytes: IDLE_BYTES, files: IDLE_FILES }): Promise<CutCost> {
  const directory = mkdtempSync(join(tmpdir(), "understudy-bench-"));
  const upper = join(directory, "upper");
  mkdirSync(upper);
  const fd = openSync(join(upper, "changing"), "w+");
  const capture = new FileCapture({ filesDirectory: directory, lower: upper });
  try {
    writeAll(fd, LARGE_WRITE, FILE_BYTES);
    await copyToNobody(capture);
    const alone = changeAndCut(fd, capture, cuts);
    capture.reset();
    makeIdle(upper, idle);
    await copyToNobody(capture);
    const amongMany = changeAndCut(fd, capture, cuts);
    const changed = alone.changed + amongMany.changed;
    return { aloneMs: alone.ms, amongManyMs: amongMany.ms, sentShare: (alone.sent + amongMany.sent) / changed };
  } finally {
    capture.close();
    closeSync(fd);
    rmSync(directory, { recursive: true });
  }
}

function makeIdle(upper: string, { bytes, files }: { bytes: number; files: number }): void {
  const large = openSync(join(upper, "large"), "w");
  writeAll(large, LARGE_WRITE, bytes);
  closeSync(large);
  for (let i = 0; i < files; i++) {
    const parent = join(upper, `directory-${Math.floor(i / IN_A_DIRECTORY)}`);
    if (i % IN_A_DIRECTORY === 0) mkdirSync(parent);
    const small = openSync(join(parent, `small-${i}`), "w");
    writeSync(small, `small file ${i}\n`);
    closeSync(small);
  }
}

async function copyToNobody(capture: FileCapture): Promise<void> {
  let sent = 0;
  const emit = ({ change }: FileOperation) => {
    if (change.type === "write") sent += change.bytes.length;
  };
  const pause = () => new Promise<void>(setImmediate);
  await capture.copyAll({ emit, pause, sentBytes: () => sent, expect: (files) => files });
  capture.cut();
}

/** Writes a block at random, cuts, again and again. */
function changeAndCut(fd: number, capture: FileCapture, cuts: number) {
  const times: number[] = [];
  let [sent, changed] = [0, 0];
  const bytes = Buffer.alloc(BLOCK);
  for (let i = 1; i <= cuts; i++) {
    writeSync(fd, bytes.fill(i), 0, BLOCK, Math.floor((Math.random() * FILE_BYTES) / BLOCK) * BLOCK);
    changed += BLOCK;
    const began = performance.now();
    const operations = capture.cut();
    times.push(performance.now() - began);
    for (const { change } of operations) if (change.type === "write") sent += change.bytes.length;
  }
  return { ms: median(times.toSorted((a, b) => a - b)), sent, changed };
}
