/** Which processes are below another one, as /proc tells. */
import { readdirSync, readFileSync } from "node:fs";

/** Host pids of all processes below `init`, parents first. */
export function descendants(init: number): number[] {
  const found: number[] = [];
  const visit = (pid: number) => {
    for (const child of childrenOf(pid)) {
      found.push(child);
      visit(child);
    }
  };
  visit(init);
  return found;
}

export function childrenOf(pid: number): number[] {
  const children: number[] = [];
  for (const task of readdirSync(`/proc/${pid}/task`)) children.push(...readChildren(pid, task));
  return children.sort((a, b) => a - b);
}

function readChildren(pid: number, task: string): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${task}/children`, "latin1").trim().split(" ").filter(Boolean).map(Number);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
