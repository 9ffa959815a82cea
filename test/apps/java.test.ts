import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { servesThrough } from "./support.ts";

const SOURCE = new URL("programs/Server.java", import.meta.url).pathname;
/** Eclipse's compiler: a run-time environment has none of its own. */
const COMPILER = ["-cp", "/usr/share/java/ecj.jar", "org.eclipse.jdt.internal.compiler.batch.Main"];

test("A Java HTTP server: a heap with a garbage collector, compiled code, many threads", {
  timeout: 600_000,
}, async (context) => {
  const classes = mkdtempSync(join(tmpdir(), "understudy-java-"));
  try {
    execFileSync("java", [...COMPILER, "-11", "-d", classes, SOURCE], { stdio: "inherit" });
    // The directory is on every node's file system: the lab's nodes are layers over this machine's.
    const command = ["java", "-Xmx128m", "-cp", classes, "Server"];
    await servesThrough(context, "java", { command }, [{ kind: "counting", port: 8080, connections: 10 }]);
  } finally {
    rmSync(classes, { recursive: true, force: true });
  }
});
