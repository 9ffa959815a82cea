import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { servesThrough } from "./support.ts";

const CONFIGURATION = new URL("programs/nginx.conf", import.meta.url).pathname;
const LONG_BYTES = 64 << 20;

/** The same on every machine: the program makes it itself, and its digest is known here. */
const make = (bytes: number) => `yes understudy | head -c ${bytes}`;
const digestOf = (bytes: number) =>
  execFileSync("sh", ["-c", `${make(bytes)} | sha256sum`], { encoding: "latin1" }).slice(0, 64);

test("nginx: connections kept alive and a download under way go on", { timeout: 400_000 }, (context) => {
  const site = "/srv/understudy-test";
  const files = `mkdir -p ${site}; ${make(20_000)} >${site}/page; ${make(LONG_BYTES)} >${site}/long`;
  const command = ["sh", "-c", `${files}; exec nginx -c ${CONFIGURATION}`];
  return servesThrough(context, "nginx", { command }, [
    { kind: "pages", port: 80, connections: 10, more: ["/page", digestOf(20_000)] },
    { kind: "download", port: 80, connections: 2, more: ["/long", digestOf(LONG_BYTES)] },
  ]);
});
