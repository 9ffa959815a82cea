/** On the client host: opens connections and keeps them idle until its standard input ends: `idle-connections.ts HOST PORT COUNT`. */
import { once } from "node:events";
import { connect } from "node:net";

const [host = "", port = "", count = ""] = process.argv.slice(2);

for (let i = 0; i < Number(count); i++) await once(connect(Number(port), host), "connect");
process.stdout.write("open\n");
await once(process.stdin.resume(), "end");
process.exit();
