/**
 * The client side of these tests, as a process on the lab's client host: `main.ts KIND HOST PORT CONNECTIONS [ARGUMENT…]`.
 * Says `{"turns": N}` as it goes; when its standard input ends, the last answers are waited for and all is looked for once more.
 */
import type { Conversation, Opening } from "./conversation.ts";
import { openCounting, openDownload, openPages } from "./http.ts";
import { openLedger } from "./ledger.ts";
import { openLines } from "./lines.ts";
import { openMany } from "./many.ts";
import { openMemcached } from "./memcached.ts";
import { openSink } from "./sink.ts";
import { openWebSocket } from "./websocket.ts";

const [kind = "", host = "", port = "", connections = "", ...more] = process.argv.slice(2);
const TELL_MS = 100;
/** Connections opened at a time: each waits for a checkpoint, as all that the application says. */
const TOGETHER = 100;

export interface ClientResult {
  turns: number;
  /** What went wrong, a line each. */
  findings: string[];
}

const openings: Record<string, Opening> = {
  lines: openLines,
  ledger: openLedger,
  counting: openCounting,
  many: openMany,
  memcached: openMemcached,
  websocket: openWebSocket,
  sink: openSink,
  pages: (target, index) => openPages(target, index, more[0]!, more[1]!),
  download: (target, index) => openDownload(target, index, more[0]!, more[1]!),
};

const target = { host, port: Number(port) };
const result: ClientResult = { turns: 0, findings: [] };
let stopping = false;
process.stdin
  .on("data", () => {})
  .on("end", () => {
    stopping = true;
  });

async function hold(conversation: Conversation, index: number): Promise<void> {
  try {
    while (!stopping) {
      await conversation.turn();
      result.turns++;
    }
    await conversation.verify?.();
  } catch (error) {
    result.findings.push(`${kind} ${index}: ${error instanceof Error ? error.message : String(error)}`);
  }
  conversation.close();
}

const tell = () => process.stdout.write(`${JSON.stringify(result)}\n`);
const all: Conversation[] = [];
for (let first = 0; first < Number(connections); first = all.length) {
  const together = Math.min(Number(connections) - first, TOGETHER);
  all.push(...(await Promise.all(Array.from({ length: together }, (_, i) => openings[kind]!(target, first + i)))));
}
const ticker = setInterval(tell, TELL_MS);
await Promise.all(all.map(hold));
clearInterval(ticker);
process.stdout.write(`${JSON.stringify({ ...result, finished: true })}\n`, () => process.exit(0));
