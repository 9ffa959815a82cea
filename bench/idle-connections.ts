/** On the client host: opens connections and keeps them idle until its standard input ends: `idle-connections.ts HOST PORT COUNT`. */
import { once } from "node:events";
import { connect } from "node:net";

const [host = "", port = "", count = ""] = process.argv.slice(2);

/** At a time: each waits for a checkpoint, as all that the application says. */
const TOGETHER = 100;
for (let left = Number(count); left > 0; left -= TOGETHER)
  await Promise.all(
    Array.from({ length: Math.min(left, TOGETHER) }, () => once(connect(Number(port), host), "connect")),
  );
process.stdout.write("open\n");
await once(process.stdin.resume(), "end");
process.exit();
