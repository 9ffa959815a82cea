/** Much of one thing: a planned switch and a power-off leave each of it as it was. What a stop costs then, `bench -- scale` tells. */
import { test } from "node:test";
import { type Amounts, MANY_PORT, manyCommand } from "../../workload/many.ts";
import { type Hardship, servesThrough } from "./support.ts";

const HARDSHIPS: Hardship[] = ["switch", "power-off"];
const CONNECTIONS = 10;

const AMOUNTS: Record<string, Amounts> = {
  "200 processes": { processes: 200 },
  "1,000 threads": { threads: 1000 },
  "10,000 descriptors": { descriptors: 10_000 },
};

for (const [much, amounts] of Object.entries(AMOUNTS))
  test(`${much}: nothing is lost, no connection breaks`, { timeout: 600_000 }, (context) => {
    const wanted = [{ kind: "many", port: MANY_PORT, connections: CONNECTIONS } as const];
    return servesThrough(context, "much", { command: manyCommand(amounts) }, wanted, HARDSHIPS);
  });
