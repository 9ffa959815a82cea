/** Whether a node has the files that are mapped on another. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { closeDescriptor, openPath } from "../../../src/kernel/calls.ts";
import type { Area } from "../../../src/resources/memory/layout.ts";
import { differingPrograms, MappedPrograms, programDiffers } from "../../../src/tree/programs.ts";

const scratch = mkdtempSync(join(tmpdir(), "understudy-programs-"));
const [primary, standby, layer] = ["primary", "standby", "layer"].map((name) => join(scratch, name)) as [
  string,
  string,
  string,
];
for (const directory of [primary, standby, layer]) mkdirSync(join(directory, "lib"), { recursive: true });
const [here, there] = [openPath(primary, 0), openPath(standby, 0)];
after(() => {
  closeDescriptor(here);
  closeDescriptor(there);
  rmSync(scratch, { recursive: true });
});

function put(path: string, bytes: Buffer | string, also = bytes): void {
  writeFileSync(join(primary, path), bytes);
  writeFileSync(join(standby, path), also);
}

const mapping = (...paths: string[]) =>
  paths.map((path) => ({ backing: { type: "file", path, offset: 0, shared: false } })) as Area[];
const programs = () => new MappedPrograms({ rootFd: here, layer, mounts: ["/data"] });

test("the same files pass, whatever their times; each is told once", () => {
  put("lib/a", "text");
  put("lib/b", Buffer.alloc(30_000_000, 7));
  const mapped = programs();
  const found = mapped.take([mapping("/lib/a", "/lib/b", "/lib/a"), mapping("/lib/a")]);
  assert.deepEqual(
    found.map(({ path }) => path),
    ["/lib/a", "/lib/b"],
  );
  assert.deepEqual(differingPrograms(there, found), []);
  assert.deepEqual(mapped.take([mapping("/lib/b")]), []);
  assert.deepEqual(mapped.all([mapping("/lib/b")]), [found[1]]);
  put("lib/first", "text");
  const asked = mapped.all([mapping("/lib/b", "/lib/first")]);
  // To be asked for is not to be told: who follows hears of it with the next checkpoint.
  assert.deepEqual(mapped.take([mapping("/lib/b", "/lib/first")]), asked.slice(1));
  mapped.reset();
  assert.deepEqual(mapped.take([mapping("/lib/b")]), [found[1]]);
});

test("other content, another length and a missing file are found, and named", () => {
  put("lib/c", "text", "Text");
  put("lib/d", "text", "text ");
  put("lib/e", Buffer.alloc(30_000_000, 7), Buffer.concat([Buffer.alloc(29_999_999, 7), Buffer.from([8])]));
  writeFileSync(join(primary, "lib/f"), "text");
  for (const path of ["/lib/c", "/lib/d", "/lib/e", "/lib/f"]) {
    const found = programs().take([mapping(path)]);
    assert.equal(found.length, 1);
    assert.deepEqual(differingPrograms(there, found), found);
    const { code, message } = programDiffers(there, found[0]!);
    assert.equal(code, "program-differs");
    assert.ok(message.includes(`"${path}" ${path === "/lib/f" ? "is not on this node" : "on this node is another"}`));
  }
});

test("of a program with a build id that and the size must be the same", () => {
  const shell = openPath("/", 0);
  try {
    const [found] = new MappedPrograms({ rootFd: shell, layer, mounts: [] }).take([mapping(process.execPath)]);
    assert.ok(found);
    assert.deepEqual(differingPrograms(shell, [found]), []);
    for (const other of [
      { ...found, size: found.size + 1 },
      { ...found, identity: "00" },
    ])
      assert.deepEqual(differingPrograms(shell, [found, other]), [other]);
  } finally {
    closeDescriptor(shell);
  }
});

test("what is the application's own, a volume's, deleted or no file is not told", () => {
  put("lib/own", "text");
  writeFileSync(join(layer, "lib/own"), "text");
  mkdirSync(join(primary, "data"));
  put("lib/g", "text");
  writeFileSync(join(primary, "data/h"), "text");
  truncateSync(join(primary, "lib/g"), 0);
  const other = ["/lib/own", "/data/h", "/lib/gone (deleted)", "/memfd:x (deleted)", "/lib", "/dev/zero"];
  assert.deepEqual(
    programs()
      .take([mapping(...other, "/lib/g")])
      .map(({ path, size }) => [path, size]),
    [["/lib/g", 0]],
  );
});
