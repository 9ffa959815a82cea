/**
 * On the client host: opens connections to programs/many.c and keeps them idle: `idle-connections.ts HOST PORT COUNT`. A line with a
 * number on standard input lets so many of them, each time the next ones, say something and wait for its answer; then it says
 * "answered". It ends with its standard input, or with a failure when a connection is broken or an answer wrong.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";

const [host = "", port = "", count = ""] = process.argv.slice(2);

/** At a time: each waits for a checkpoint, as all that the application says. */
const TOGETHER = 100;

interface Connection {
  socket: Socket;
  asked: number;
}

const connections: Connection[] = [];

function broken(why: string): never {
  process.stderr.write(`${why}\n`);
  process.exit(1);
}

async function open(): Promise<Connection> {
  const socket = connect(Number(port), host);
  socket.on("error", (error) => broken(error.message));
  await once(socket, "connect");
  socket.on("close", () => broken("A connection was closed"));
  return { socket, asked: 0 };
}

/** The program counts for each connection how often it was asked. */
async function ask(connection: Connection, name: number): Promise<void> {
  const { socket } = connection;
  const wanted = `${name} ${++connection.asked}\n`;
  socket.write(`add ${name}\n`);
  const [answer] = (await once(socket, "data")) as [Buffer];
  if (answer.toString() !== wanted) broken(`"${answer}" instead of "${wanted}"`);
}

for (let left = Number(count); left > 0; left -= TOGETHER)
  connections.push(...(await Promise.all(Array.from({ length: Math.min(left, TOGETHER) }, open))));
process.stdout.write("open\n");

let next = 0;
for await (const line of createInterface({ input: process.stdin })) {
  for (let left = Number(line); left > 0; left -= TOGETHER)
    await Promise.all(
      Array.from({ length: Math.min(left, TOGETHER) }, () => {
        const name = next++ % connections.length;
        return ask(connections[name]!, name);
      }),
    );
  process.stdout.write("answered\n");
}
process.exit();
