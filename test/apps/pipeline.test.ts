import { test } from "node:test";
import { servesThrough } from "./support.ts";

const PIPELINE = new URL("programs/pipeline.sh", import.meta.url).pathname;

test("A shell pipeline that connects to the outside: line after line, none twice", { timeout: 400_000 }, (context) =>
  servesThrough(context, "pipeline", { command: ["bash", PIPELINE] }, [{ kind: "sink", port: 9000, connections: 1 }]),
);
