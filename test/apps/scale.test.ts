/** Much of one thing: a planned switch and a power-off leave each of it as it was. What a stop costs then, `bench -- scale` tells. */
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { type Amounts, MANY_PORT, manyCommand } from "../../workload/many.ts";
import { endure, type Hardship, HOST, servesThrough, stage, tellWhatHappened } from "./support.ts";

const HARDSHIPS: Hardship[] = ["switch", "power-off"];
const CONNECTIONS = 10;

const AMOUNTS: Record<string, Amounts> = {
  "200 processes": { processes: 200 },
  "600 processes, whose stops take long": { processes: 600 },
  "1,000 threads": { threads: 1000 },
  "10,000 descriptors": { descriptors: 10_000 },
};

for (const [much, amounts] of Object.entries(AMOUNTS))
  test(`${much}: nothing is lost, no connection breaks`, { timeout: 600_000 }, (context) => {
    const wanted = [{ kind: "many", port: MANY_PORT, connections: CONNECTIONS } as const];
    return servesThrough(context, "much", { command: manyCommand(amounts) }, wanted, HARDSHIPS);
  });

const IDLE_CLIENT = new URL("../../workload/idle-connections.ts", import.meta.url).pathname;
const IDLE_CONNECTIONS = 5000;
const SOME = 20;

test("5,000 idle connections: each is answered as if nothing had happened", { timeout: 600_000 }, async (context) => {
  await using application = await stage("idle", { command: manyCommand({}) });
  const client = await application.spawn([process.execPath, IDLE_CLIENT, HOST, `${MANY_PORT}`, `${IDLE_CONNECTIONS}`]);
  const lines = createInterface({ input: client.stdout! })[Symbol.asyncIterator]();
  let complaints = "";
  client.stderr!.on("data", (text) => {
    complaints += text;
  });
  const said = async () => {
    const { done } = await lines.next();
    if (done) throw new Error(`The client ended: ${complaints}`);
  };
  const answered = async (connections: number) => {
    client.stdin!.write(`${connections}\n`);
    await said();
  };
  try {
    await said();
    await endure(application, HARDSHIPS, () => answered(SOME));
    await answered(IDLE_CONNECTIONS);
    const ended = once(client, "exit");
    client.stdin!.end();
    await ended;
  } catch (error) {
    await tellWhatHappened(context, application);
    throw error;
  } finally {
    client.kill("SIGKILL");
  }
});
