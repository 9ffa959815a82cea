/** What listens on a node's network: nothing that tells anything, or does anything, for one who shows neither certificate nor token. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Lab } from "../../../src/lab/lab.ts";
import { RedisSite } from "../../../workload/site.ts";
import { downAndGone } from "../faults/support.ts";

const lab = new Lab({ name: `lis${process.pid}` });
const site = new RedisSite(lab);
const QUIET_MS = 3000;

before(
  async () => {
    await lab.up({ nodes: 3, store: "etcd" });
    await site.protect({ standby: ["node-b", "node-c"] });
  },
  { timeout: 180_000 },
);
after(() => downAndGone(lab), { timeout: 60_000 });

/** Ports of a node that are bound to more than its own loopback. */
async function ports(node: string): Promise<number[]> {
  const { stdout } = await lab.exec(node, ["ss", "-Hltn"]);
  const local = stdout.split("\n").flatMap((line) => line.trim().split(/\s+/)[3] ?? []);
  return local.filter((at) => !/^(127\.|\[::1\])/.test(at)).map((at) => Number(at.slice(at.lastIndexOf(":") + 1)));
}

/** Asks without a certificate, over TLS or not: what the peer says to that before it closes, or has said nothing for long. */
const ASK = `
const [, host, port, how] = process.argv;
const done = (said) => { console.log(JSON.stringify(said)); process.exit(0); };
const { connect } = require(how === "tls" ? "tls" : "net");
const socket = connect({ host, port: Number(port), rejectUnauthorized: false });
let said = "";
socket.on("connect", () => { if (how !== "tls") ask(); });
socket.on("secureConnect", ask);
socket.on("data", (bytes) => { said += bytes.toString("latin1"); });
socket.on("error", () => done(said));
socket.on("close", () => done(said));
socket.setTimeout(${QUIET_MS}, () => done(said));
function ask() { socket.write("GET /v1/health HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n"); }
`;

for (const how of ["tls", "plain"]) {
  test(`whoever asks over ${how} without credentials is told nothing`, { timeout: 180_000 }, async () => {
    for (const node of ["node-a", "node-b"]) {
      const { address } = await lab.requireNode(node);
      const listening = await ports(node);
      assert.ok(listening.length >= 3, `agent, stream, member of the store: ${listening}`);
      for (const port of listening) {
        const { stdout } = await lab.client([process.execPath, "-e", ASK, address, String(port), how]);
        const said = JSON.parse(stdout) as string;
        // A refusal is all that may be said: of the API, that nobody is known; of others, that this is no TLS.
        const refused = said === "" || /^HTTP\/1\.[01] (400|401) /.test(said);
        assert.ok(refused, `${node}:${port} says ${JSON.stringify(said.slice(0, 300))}`);
        assert.doesNotMatch(said, /instances|redis|node-c/);
      }
    }
  });
}
