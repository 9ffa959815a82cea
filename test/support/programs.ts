/** Builds the self-checking test programs, once per test file, and says where they are. */
import { execFileSync } from "node:child_process";
import { resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");

export function buildPrograms(): void {
  execFileSync("make", ["-s", "-j2", "-C", resolve(root, "test/programs")], { stdio: ["ignore", "ignore", "inherit"] });
}

/** @param program KIND/NAME, as in test/programs/KIND/NAME.c */
export function programPath(program: string): string {
  return resolve(root, "build/programs", program);
}
