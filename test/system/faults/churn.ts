/**
 * Clients that come and go: each connects, sets a key, reads it back and hangs up, again and again. Ends when its input does, with
 * one JSON document. Arguments: HOST PORT WORKERS.
 */
import { connect } from "node:net";

export interface ChurnResult {
  done: number;
  failures: string[];
}

const [host, port, workers] = process.argv.slice(2);
const result: ChurnResult = { done: 0, failures: [] };
let ended = false;

function visit(worker: number, round: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const value = `${worker}-${round}`;
    const socket = connect({ host: host!, port: Number(port) });
    let text = "";
    socket.setTimeout(20_000, () => socket.destroy(new Error("no answer within 20 s")));
    socket.on("connect", () => socket.write(`SET churn:${worker} ${value}\r\nGET churn:${worker}\r\n`));
    // Once all is answered and hung up, nothing is owed any more: a socket that is closed on both sides does not move.
    let answered = false;
    socket.on("error", (error) => (answered ? resolve() : reject(error)));
    socket.on("close", () => (answered ? resolve() : reject(new Error(`closed after ${JSON.stringify(text)}`))));
    socket.on("data", (bytes) => {
      text += bytes.toString();
      answered = text === `+OK\r\n$${value.length}\r\n${value}\r\n`;
      if (answered) socket.end();
    });
  });
}

async function work(worker: number): Promise<void> {
  for (let round = 0; !ended; round++) {
    try {
      await visit(worker, round);
      result.done++;
    } catch (error) {
      result.failures.push(`${new Date().toISOString()} ${(error as Error).message}`);
    }
  }
}

process.stdin.on("end", () => {
  ended = true;
});
process.stdin.resume();
await Promise.all(Array.from({ length: Number(workers) }, (_, worker) => work(worker)));
process.stdout.write(JSON.stringify(result));
