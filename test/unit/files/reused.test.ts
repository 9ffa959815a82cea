/** Inode numbers that are used again at once, under the same names or others. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { Status } from "../../../src/kernel/files.ts";
import { onDisk, same, started, twice } from "./pair.ts";

const TRIES = 60;
const PAIRS = 20;

/** As if all inodes were born just now, in one tick of the file system's clock: what gives them different times is mostly being looked at. */
async function withoutTimesOfBirth(body: () => Promise<void>): Promise<void> {
  const told: Record<string, (status: Status) => unknown> = {
    key: (status) => String(status.inode),
    bornSeconds: () => Math.floor(Date.now() / 1000),
    bornNs: () => (Date.now() % 1000) * 1e6,
  };
  const exact = Object.keys(told).map(
    (name) => [name, Object.getOwnPropertyDescriptor(Status.prototype, name)!] as const,
  );
  for (const [name, tell] of Object.entries(told))
    Object.defineProperty(Status.prototype, name, {
      configurable: true,
      get(this: Status) {
        return tell(this);
      },
    });
  try {
    await body();
  } finally {
    for (const [name, descriptor] of exact) Object.defineProperty(Status.prototype, name, descriptor);
  }
}

twice("another inode with the number and the time of birth of the one before", async (pair) => {
  const path = `${pair.primary.root}/one`;
  const make = [
    () => fs.symlinkSync("elsewhere", path),
    () => fs.writeFileSync(path, "a file"),
    () => fs.writeFileSync(path, "another"),
    () => fs.symlinkSync("somewhere", path),
  ];
  await withoutTimesOfBirth(async () => {
    await started(pair);
    let twins = 0;
    for (let i = 0; i < TRIES; i++) {
      make[i % make.length]!();
      pair.capture.preDump(pair.emit);
      const { ino } = fs.lstatSync(path);
      fs.unlinkSync(path);
      make[(i + 1) % make.length]!();
      if (fs.lstatSync(path).ino === ino) twins++;
      pair.cut();
      same(pair);
      fs.unlinkSync(path);
      pair.cut();
    }
    assert.ok(twins > 0, "No number was used again");
  });
});

onDisk("names that go to another inode with the number of the one before", async (pair) => {
  const { root, numbers } = pair.primary;
  const pairs = Array.from({ length: PAIRS }, (_, i) => [`${root}/name-${i}`, `${root}/other-${i}`] as const);
  for (const [name] of pairs) fs.writeFileSync(name, "before");
  await started(pair);
  pair.cut();
  for (const [name, other] of pairs) {
    const { ino } = fs.statSync(name);
    fs.unlinkSync(name);
    numbers!.next(ino);
    fs.writeFileSync(other, "after");
    assert.equal(fs.statSync(other).ino, ino);
    fs.linkSync(other, name);
  }
  pair.cut();
  same(pair);
});
