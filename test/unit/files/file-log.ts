/** The kernel's log of changed files, for tests. */
import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { openLog } from "../../../src/files/capture.ts";
import type { FileLog } from "../../../src/files/log.ts";
import { whyNotTraced } from "../../../src/kernel/file-systems.ts";
import { probeHost } from "../../../src/kernel/host.ts";

/**
 * Undefined only where `understudy check` says that the kernel has none, or the directory is on no file system that it watches:
 * there a capture compares by its own choice, and says why.
 */
export async function findLog(directory = tmpdir()): Promise<FileLog | undefined> {
  const { log, missing } = openLog(directory);
  if (log) return log;
  const { features } = await probeHost();
  const can = features.find(({ id }) => id === "file-log")!.available && whyNotTraced(directory) === undefined;
  assert.ok(!can, `This kernel has what the log needs, and it cannot be opened: ${missing}`);
  return undefined;
}
