/** A program with much of everything that is idle until it is asked: programs/many.c, built when it is needed. */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { resolve } from "node:path";

const SOURCE = resolve(import.meta.dirname, "programs/many.c");
const DIRECTORY = resolve(import.meta.dirname, "../build/programs");

export const MANY_PORT = 7000;

export interface Amounts {
  processes?: number;
  threads?: number;
  descriptors?: number;
}

/** The command that runs it. Connections come from whoever connects. */
export function manyCommand({ processes = 0, threads = 0, descriptors = 0 }: Amounts): string[] {
  const program = resolve(DIRECTORY, "many");
  mkdirSync(DIRECTORY, { recursive: true });
  execFileSync("gcc", ["-O2", "-Wall", "-pthread", "-o", program, SOURCE], { stdio: ["ignore", "ignore", "inherit"] });
  return [program, ...[processes, threads, descriptors].map(String)];
}
