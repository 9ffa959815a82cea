/** A disk of its own for every node's state, small enough to be filled in a moment. */
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Lab } from "../../src/lab/lab.ts";

/** Room for what etcd sets aside for its log (two files of 64 MiB) and for clones. */
const SIZE = "size=320m,nr_inodes=4000";

/** Moves each node's state there, one node after the other. The lab must run no application. */
export async function giveDisks(lab: Lab, nodes: readonly string[]): Promise<void> {
  for (const node of nodes) {
    await lab.powerOff(node);
    const state = lab.stateDirectory(node);
    const aside = mkdtempSync(join(tmpdir(), "understudy-disk-"));
    try {
      cpSync(state, aside, { recursive: true, preserveTimestamps: true });
      execFileSync("mount", ["-t", "tmpfs", "-o", SIZE, "tmpfs", state]);
      cpSync(aside, state, { recursive: true, preserveTimestamps: true });
    } finally {
      rmSync(aside, { recursive: true, force: true });
    }
    await lab.powerOn(node);
  }
}

/** After the lab's processes have ended, before its directories are removed. */
export function takeDisks(lab: Lab, nodes: readonly string[]): void {
  for (const node of nodes) {
    const state = lab.stateDirectory(node);
    const isMounted = () =>
      execFileSync("findmnt", ["-rno", "TARGET"], { encoding: "utf8" }).split("\n").includes(state);
    if (isMounted()) execFileSync("umount", ["-l", state]);
  }
}
