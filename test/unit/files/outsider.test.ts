/** Who is not stopped for a cut (another process of the node's) writes in the application's files: all of it arrives with later cuts. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { logged, type Pair, started } from "./pair.ts";

/** In many small parts, none of them zeros. */
const APPENDS = `i=0; while [ $i -lt 8 ]; do dd if=/dev/urandom of="$0/appended-$i" bs=1000 count=4000 status=none; i=$((i + 1)); done`;
/** Within a size that is there already, and what makes room first. */
const OVERWRITES = `truncate -s 4000000 "$0/made"; dd if=/dev/urandom of="$0/made" bs=1000 count=4000 conv=notrunc status=none
  fallocate -l 4000000 "$0/room"; dd if=/dev/urandom of="$0/room" bs=1000 count=4000 conv=notrunc status=none
  dd if=/dev/urandom of="$0/short" bs=1000 count=4000 status=none; truncate -s 1234567 "$0/short"; truncate -s 2345678 "$0/short"`;

/** As a protected application's files are looked at, but without a stop. */
async function meanwhile(pair: Pair, script: string): Promise<void> {
  await started(pair);
  const outsider = spawn("sh", ["-c", script, pair.primary.root], { stdio: ["ignore", "ignore", "inherit"] });
  const gone = once(outsider, "exit");
  while (outsider.exitCode === null && outsider.signalCode === null) {
    pair.capture.preDump(pair.emit);
    pair.cut();
    await sleep(0);
  }
  await gone;
  for (let i = 0; i < 2; i++) {
    while (pair.capture.preDump(pair.emit));
    pair.cut();
  }
}

logged("an outsider's appended bytes arrive", (pair) => meanwhile(pair, APPENDS));
logged("an outsider's bytes within a file arrive", (pair) => meanwhile(pair, OVERWRITES));
