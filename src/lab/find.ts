/** Which labs are on this machine, so that commands find theirs without being told. */
import { readdirSync } from "node:fs";
import { Lab } from "./lab.ts";
import { stateRoot } from "./layout.ts";

/** Names of the labs that are up, sorted. */
export function labsUp(): string[] {
  return labsFound().filter((name) => new Lab({ name }).isUp());
}

/** Also labs that a crash left half made. */
export function labsFound(): string[] {
  try {
    return readdirSync(stateRoot).sort();
  } catch {
    return [];
  }
}

/** The lab that a command without `--name` means: the only one that is up, else `lab`. */
export function defaultLab(): string {
  const up = labsUp();
  return up.length === 1 ? up[0]! : "lab";
}
