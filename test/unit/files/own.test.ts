/** The user's way to the application's own files: names, listing, reading, and a copy that is the same. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { afterEach, beforeEach, test } from "node:test";
import fc from "fast-check";
import { FileApply } from "../../../src/files/apply.ts";
import { exportSteps } from "../../../src/files/export.ts";
import { readName, showName } from "../../../src/files/names.ts";
import { OwnFiles } from "../../../src/files/own.ts";
import { closeDescriptor, openPath } from "../../../src/kernel/calls.ts";
import { OperatingError } from "../../../src/kernel/failure.ts";
import { type Layer, Overlays, ownMounts } from "./overlays.ts";
import { describe, isFileStep, perform, step } from "./program.ts";

const SEED = Number(process.env.FILES_SEED ?? Math.floor(Math.random() * 2 ** 31));
const O_PATH = 0o10000000;

ownMounts();
let overlays: Overlays;
let layer: Layer;
let files: OwnFiles;

beforeEach(() => {
  overlays = new Overlays();
  const lower = overlays.path("lower");
  fs.mkdirSync(`${lower}/etc`);
  fs.writeFileSync(`${lower}/etc/passwd`, "the node's");
  fs.writeFileSync(`${lower}/etc/changed`, "the node's");
  fs.writeFileSync(`${lower}/etc/deleted`, "the node's");
  layer = overlays.mount("layer", lower);
  const shared = overlays.path("shared");
  fs.writeFileSync(`${shared}/segment`, "shared");
  files = new OwnFiles([
    { at: "/", directory: `${layer.directory}/upper` },
    { at: "/dev/shm", directory: shared },
  ]);
});

afterEach(() => {
  files.close();
  closeDescriptor(layer.rootFd);
  overlays.remove();
});

const names = async (path: string) => (await files.list(path)).map(({ name }) => name);

function read(path: string): string {
  const { fd, size } = files.open(path);
  try {
    const bytes = Buffer.alloc(size);
    assert.equal(fs.readSync(fd, bytes, 0, size, 0), size);
    return bytes.toString();
  } finally {
    closeDescriptor(fd);
  }
}

function fails(code: string, work: () => unknown): void {
  assert.throws(work, (error) => error instanceof OperatingError && error.code === code);
}

test("any name can be shown and said again; readable ones stand as they are", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      const name = Buffer.from(bytes).toString("latin1");
      const shown = showName(name);
      assert.equal(readName(shown), name);
      assert.ok(!/[\p{C}]/u.test(shown), shown);
    }),
    { seed: SEED },
  );
  assert.equal(showName(Buffer.from("Grüße 日本 🎭").toString("latin1")), "Grüße 日本 🎭");
  assert.equal(showName("\xff\xfe a\\b\n"), "\\xff\\xfe a\\\\b\\x0a");
  assert.equal(readName("Grüße"), Buffer.from("Grüße").toString("latin1"));
});

test("what it created and changed is its own, what shows through or is deleted is not", async () => {
  fs.writeFileSync(`${layer.root}/etc/changed`, "its own");
  fs.unlinkSync(`${layer.root}/etc/deleted`);
  fs.writeFileSync(Buffer.from(`${layer.root}/etc/\xff`, "latin1"), "odd");
  fs.symlinkSync("changed", `${layer.root}/etc/link`);
  assert.deepEqual(await names("/"), ["dev", "etc"]);
  assert.deepEqual(await names("/etc"), ["changed", "link", "\\xff"]);
  assert.deepEqual(await names("/dev"), ["shm"]);
  assert.deepEqual(await names("/dev/shm"), ["segment"]);
  assert.equal(read("/etc/changed"), "its own");
  assert.equal(read("/etc/link"), "its own");
  assert.equal(read("/etc/\xff"), "odd");
  assert.equal(read("/dev/shm/segment"), "shared");
  const link = files.entry("/etc/link");
  assert.deepEqual([link.type, link.target], ["symlink", "changed"]);
  for (const path of ["/etc/passwd", "/etc/deleted", "/nowhere/at/all"]) fails("file-unknown", () => files.open(path));
  fails("file-unknown", () => files.entry("/etc/deleted"));
  fails("file-not-regular", () => files.open("/etc"));
  await assert.rejects(files.list("/etc/changed"), { code: "file-not-directory" });
});

test("no link leads out of the application's files", async () => {
  const outside = overlays.path("outside");
  fs.writeFileSync(`${outside}/secret`, "the node's");
  fs.symlinkSync(outside, `${layer.root}/absolute`);
  fs.symlinkSync("../../../../../../../..", `${layer.root}/up`);
  fs.symlinkSync("/proc/self/root", `${layer.root}/magic`);
  fs.symlinkSync("loop", `${layer.root}/loop`);
  fs.symlinkSync("/dev/shm", `${layer.root}/shared`);
  for (const path of ["/absolute/secret", `/up${outside}/secret`, `/magic${outside}/secret`, "/loop", "/loop/x"])
    fails("file-unknown", () => files.open(path));
  assert.deepEqual(await names("/up"), await names("/"));
  assert.deepEqual(await names("/../.."), await names("/"));
  assert.equal(read("/shared/segment"), "shared");
  fails("file-not-regular", () => files.open("/up"));
});

function copyTo(name: string, path = "/"): string {
  const directory = overlays.path(name);
  const rootFd = openPath(directory, O_PATH);
  const apply = new FileApply(rootFd);
  try {
    for (const change of exportSteps(files.below(path))) apply.apply({ op: "file", change });
  } finally {
    apply.close();
    closeDescriptor(rootFd);
  }
  return directory;
}

test("a copy has the holes, names, links and kinds of what it is made from", () => {
  const { root } = layer;
  fs.mkdirSync(`${root}/data/${"n".repeat(255)}`, { recursive: true });
  const sparse = fs.openSync(`${root}/data/sparse`, "w");
  fs.writeSync(sparse, "begin", 0);
  fs.writeSync(sparse, "end", 20_000_000);
  fs.closeSync(sparse);
  fs.linkSync(`${root}/data/sparse`, `${root}/data/again`);
  fs.symlinkSync("/etc/shadow", `${root}/data/link`);
  fs.writeFileSync(`${root}/etc/changed`, "its own");
  perform(root, layer.rootFd, { do: "fifo", path: "data/fifo" });
  perform(root, layer.rootFd, { do: "device", path: "data/device" });
  const data = copyTo("data", "/data");
  assert.deepEqual(describe(data), describe(`${root}/data`));
  assert.ok(fs.statSync(`${data}/sparse`).blocks < 1000);
  const all = copyTo("all");
  assert.deepEqual(fs.readdirSync(all).sort(), ["data", "dev", "etc"]);
  assert.deepEqual(fs.readdirSync(`${all}/etc`), ["changed"]);
  assert.equal(fs.readFileSync(`${all}/dev/shm/segment`, "utf8"), "shared");
});

test(`a copy of what random programs made is the same (seed ${SEED})`, () => {
  let round = 0;
  fc.assert(
    fc.property(fc.array(step.filter(isFileStep), { maxLength: 40, size: "max" }), (steps) => {
      const here = `round-${round++}`;
      fs.mkdirSync(`${layer.root}/${here}`);
      const at = openPath(`${layer.root}/${here}`, O_PATH);
      for (const one of steps) perform(`${layer.root}/${here}`, at, one);
      closeDescriptor(at);
      assert.deepEqual(describe(copyTo(here, `/${here}`)), describe(`${layer.root}/${here}`));
    }),
    { seed: SEED, numRuns: Number(process.env.FILES_RUNS ?? 60) },
  );
});
