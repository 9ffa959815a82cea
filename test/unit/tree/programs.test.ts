/** Whether a node has the files that are mapped on another. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { closeDescriptor, openPath } from "../../../src/kernel/calls.ts";
import type { Area } from "../../../src/resources/memory/layout.ts";
import { checkPrograms, MappedPrograms } from "../../../src/tree/programs.ts";

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
  checkPrograms(there, found);
  assert.deepEqual(mapped.take([mapping("/lib/b")]), []);
  assert.deepEqual(mapped.all([mapping("/lib/b")]), [found[1]]);
  mapped.reset();
  assert.deepEqual(mapped.take([mapping("/lib/b")]), [found[1]]);
});

test("other content, another length and a missing file are refused by name", () => {
  put("lib/c", "text", "Text");
  put("lib/d", "text", "text ");
  put("lib/e", Buffer.alloc(30_000_000, 7), Buffer.concat([Buffer.alloc(29_999_999, 7), Buffer.from([8])]));
  writeFileSync(join(primary, "lib/f"), "text");
  for (const path of ["/lib/c", "/lib/d", "/lib/e", "/lib/f"])
    assert.throws(
      () => checkPrograms(there, programs().take([mapping(path)])),
      (error: Error) => error.message.includes(`"${path}"`),
      path,
    );
});

test("of a program with a build id that and the size must be the same", () => {
  const shell = openPath("/", 0);
  try {
    const [found] = new MappedPrograms({ rootFd: shell, layer, mounts: [] }).take([mapping(process.execPath)]);
    assert.ok(found);
    checkPrograms(shell, [found]);
    assert.throws(() => checkPrograms(shell, [{ ...found, size: found.size + 1 }]), { code: "program-differs" });
    assert.throws(() => checkPrograms(shell, [{ ...found, identity: "00" }]), { code: "program-differs" });
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
