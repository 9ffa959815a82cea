import { test } from "node:test";
import { servesThrough } from "./support.ts";

const command = ["memcached", "--user=nobody", "--port=11211", "--listen=0.0.0.0", "--memory-limit=256", "--threads=4"];

test("memcached: no acknowledged value is lost, no connection breaks", { timeout: 400_000 }, (context) =>
  servesThrough(context, "memcached", { command }, [{ kind: "memcached", port: 11211, connections: 20 }]),
);
