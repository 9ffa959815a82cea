/** `understudy check` says in which of two ways changes of files are found on this machine; and that way is taken. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openLog } from "../../../src/files/capture.ts";
import { whyNotTraced } from "../../../src/kernel/file-systems.ts";
import type { HostReport } from "../../../src/kernel/host.ts";

const CLI = new URL("../../../src/cli/main.ts", import.meta.url).pathname;

test("check tells in which way changes of files are found", () => {
  const said = execFileSync(process.execPath, [CLI, "check", "--json"], { encoding: "utf8" });
  const { available, mechanism, meaning } = (JSON.parse(said) as HostReport).features.find(
    ({ id }) => id === "file-log",
  )!;
  assert.match(mechanism, /which bytes of which files were written/);
  assert.match(meaning, available ? /cost what changed in them/ : /looking at all and comparing/);
  const { log, missing } = openLog(tmpdir());
  log?.close();
  assert.equal(log !== undefined, available && whyNotTraced(tmpdir()) === undefined, missing);
  // A file system in memory has no tracepoints of its own, whatever the kernel offers.
  const memory = mkdtempSync(join("/dev/shm", "understudy-told-"));
  try {
    assert.match(openLog(memory).missing ?? "", /^Changes of files cannot be followed by range: /);
  } finally {
    rmSync(memory, { recursive: true });
  }
});
