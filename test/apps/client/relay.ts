/** Standard input to a TCP connection and back, on the lab's client host: `relay.ts HOST PORT`. */
import { connect } from "node:net";

const [host, port] = process.argv.slice(2);
const socket = connect(Number(port), host!);
socket.on("connect", () => process.stdin.pipe(socket).pipe(process.stdout));
socket.on("error", (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
socket.on("close", () => process.exit(0));
