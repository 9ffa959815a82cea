/** Namespaces get each other's numbers: what is read belongs to the application that is there now. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readlinkSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { closeDescriptor } from "../../../src/kernel/calls.ts";
import { openQueues, unfollow } from "../../../src/resources/mqueue/namespace.ts";

/** A process in an IPC namespace of its own, with one queue of this name that nobody has open. */
async function withQueue(directory: string, name: string): Promise<ChildProcess> {
  const script = 'mount -t mqueue mqueue "$0" && : > "$0/$1" && echo ready && exec sleep 60';
  const child = spawn("unshare", ["--ipc", "--mount", "sh", "-c", script, directory, name], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout!, "data");
  return child;
}

const numberOf = (pid: number) => readlinkSync(`/proc/${pid}/ns/ipc`);

test("a namespace whose queues are followed keeps its number, so that no other is taken for it", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "understudy-queues-"));
  t.after(() => rmdirSync(directory));
  t.after(unfollow);
  const first = await withQueue(directory, "one");
  const number = numberOf(first.pid!);
  for (const fd of openQueues(first.pid!).values()) closeDescriptor(fd);
  first.kill("SIGKILL");
  await once(first, "exit");
  // Numbers are given again as soon as the kernel's worker has ended the old namespace.
  for (let i = 0; i < 50; i++)
    assert.notEqual(
      execFileSync("unshare", ["--ipc", "readlink", "/proc/self/ns/ipc"], { encoding: "utf8" }).trim(),
      number,
    );
  const second = await withQueue(directory, "two");
  const queues = openQueues(second.pid!);
  for (const fd of queues.values()) closeDescriptor(fd);
  second.kill("SIGKILL");
  await once(second, "exit");
  assert.deepEqual([...queues.keys()], ["two"]);
});
