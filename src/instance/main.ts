/** The instance of an application on this node: `node src/instance/main.ts CONFIG.json`. */
import { readFileSync } from "node:fs";
import { flushCompileCache } from "node:module";
import { setPriority } from "node:os";
import { call } from "../kernel/calls.ts";
import { setSessionNice } from "../kernel/procfs.ts";
import type { InstanceConfig } from "./control.ts";
import { Instance } from "./instance.ts";

const INSTANCE_PRIORITY = -15;
const PR_SET_TIMERSLACK = 29;
const TIMER_SLACK_NS = 1000;

const [path] = process.argv.slice(2);
if (!path) {
  process.stderr.write("Usage: main.ts CONFIG.json\n");
  process.exit(2);
}
// A disk that is full must not end an application: then the log misses lines.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
// What the agent's terminal sends is not meant for the application: only `stop` ends it.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE"] as const) process.on(signal, () => {});
// Before the application and all else: what it waits for here is short, and a late heartbeat would look like a dead machine.
setPriority(INSTANCE_PRIORITY);
setSessionNice("self", INSTANCE_PRIORITY);
// Waits for threads to stop are short naps: by default the kernel makes each of them 50 µs longer.
call("prctl", PR_SET_TIMERSLACK, TIMER_SLACK_NS);
// All is loaded: the next instance need not compile it again. By itself that is written at an orderly end, which is rare.
flushCompileCache();
await Instance.begin(JSON.parse(readFileSync(path, "utf8")) as InstanceConfig);
