/** Users and their roles, join tokens, the audit trail; real agents over TLS and unix sockets. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import type { AuditEntry, JoinToken, NewUser, NodeReport } from "../../../src/agent/api-types.ts";
import { AgentClient } from "../../../src/agent/client.ts";
import { createAuthority } from "../../../src/cluster/pki.ts";
import { eventually, failure, freePort, TestCluster } from "./harness.ts";

const run = promisify(execFile);
const cliProgram = new URL("../../../src/cli/main.ts", import.meta.url).pathname;
describe("access", { timeout: 180_000 }, () => {
  let cluster: TestCluster;
  before(async () => {
    // A group that every machine has, and that nobody of these tests is in by itself.
    cluster = await TestCluster.start(["node-a", "node-b"], { access: { operator: "games" } });
  });
  after(() => cluster.close());

  const root = () => cluster.node("node-a").client;
  const ca = () => readFileSync(join(cluster.directory, "ca/ca.crt"));
  function byToken(token: string, node = "node-a"): AgentClient {
    const { host, port } = cluster.node(node);
    const headers = () => ({ authorization: `Bearer ${token}` });
    return AgentClient.tls(`https://${host}:${port}`, { ca: ca(), minVersion: "TLSv1.3" }, undefined, headers);
  }
  const addUser = (name: string, role: string, more = {}) =>
    root().json<NewUser>("POST", "/v1/users", { body: { name, role, ...more } });
  const audit = () => root().json<AuditEntry[]>("GET", "/v1/audit");

  it("lets users do what their role may, on any node, and nobody without a token", async () => {
    const tokens = new Map<string, string>();
    for (const role of ["viewer", "operator", "admin"]) tokens.set(role, (await addUser(`a-${role}`, role)).token);
    const asks: [string, string, string][] = [
      ["viewer", "GET", "/v1/applications"],
      ["viewer", "GET", "/v1/events"],
      ["viewer", "POST", "/v1/applications/none/diff"],
      ["operator", "DELETE", "/v1/applications/none"],
      ["operator", "POST", "/v1/applications/none/switch"],
      ["admin", "PUT", "/v1/applications/none"],
      ["admin", "GET", "/v1/users"],
      ["admin", "GET", "/v1/audit"],
      ["node", "POST", "/v1/internal/clones/none"],
    ];
    const order = ["viewer", "operator", "admin", "node"];
    for (const [role, token] of tokens) {
      const client = byToken(token, "node-b");
      for (const [needed, method, path] of asks) {
        const answer = await client
          .json(method, path, { ...(method !== "GET" && { body: {} }) })
          .catch((error) => error.code);
        const mayNot = order.indexOf(role) < order.indexOf(needed);
        assert.equal(answer === "forbidden", mayNot, `${role}: ${method} ${path} → ${answer}`);
      }
      client.close();
    }
    const [name, secret] = ["a-viewer", tokens.get("admin")!.split(".")[2]];
    for (const wrong of ["", "us1.a-viewer.x", `us1.${name}.${secret}`, "us1.nobody.x"]) {
      const client = byToken(wrong);
      await assert.rejects(client.json("GET", "/v1/health"), failure("unauthenticated"));
      client.close();
    }
  });

  it("a token ends when it is told to, when its user is removed, or when another is made", async () => {
    const { token } = await addUser("short", "viewer", { expiresAt: new Date(Date.now() - 1000).toISOString() });
    await assert.rejects(byToken(token).json("GET", "/v1/health"), failure("unauthenticated"));
    const first = (await addUser("changing", "viewer")).token;
    const second = (await addUser("changing", "operator")).token;
    await assert.rejects(byToken(first).json("GET", "/v1/health"), failure("unauthenticated"));
    await byToken(second).json("GET", "/v1/health");
    await root().json("DELETE", "/v1/users/changing");
    await assert.rejects(byToken(second).json("GET", "/v1/health"), failure("unauthenticated"));
  });

  it("knows who is at the other end of the unix socket: root, a configured group, or nobody of ours", async () => {
    const socket = join(cluster.node("node-a").run, "agent.sock");
    // The directories above are this test's own; the agent opens only what is its.
    for (let path = cluster.node("node-a").directory; path.startsWith(cluster.directory); path = join(path, ".."))
      await run("chmod", ["a+x", path]);
    const ask = async (groups: string[], path: string, method = "GET") => {
      const curl = ["curl", "-s", "-X", method, "--unix-socket", socket, `http://agent${path}`];
      const who = [
        "--reuid=nobody",
        "--regid=nogroup",
        groups.length > 0 ? `--groups=${groups.join()}` : "--clear-groups",
      ];
      const { stdout } = await run("setpriv", [...who, ...curl]);
      const answer = JSON.parse(stdout) as { error?: { code: string } };
      return answer.error?.code ?? "done";
    };
    assert.equal(await ask([], "/v1/health"), "unauthenticated");
    assert.equal(await ask(["games"], "/v1/health"), "done");
    assert.equal(await ask(["games"], "/v1/applications/none", "DELETE"), "application-unknown");
    assert.equal(await ask(["games"], "/v1/users"), "forbidden");
    assert.equal(await ask(["games"], "/v1/internal/clones/none", "DELETE"), "forbidden");
    for (const file of readdirSync(cluster.node("node-a").run)) {
      if (file !== "agent.sock") assert.equal(statSync(join(cluster.node("node-a").run, file)).mode & 0o077, 0, file);
    }
    const trail = (await audit()).filter(({ user }) => user === "local:nobody");
    assert.deepEqual(
      trail.map(({ request, result }) => [request, result]),
      [
        ["DELETE /v1/applications/none", "application-unknown"],
        ["DELETE /v1/internal/clones/none", "forbidden"],
      ],
    );
  });

  it("tells who asked for which change, where, and what came of it; no secret is in it", async () => {
    const { token } = await addUser("maria", "admin");
    const client = byToken(token, "node-b");
    const body = {
      name: "app",
      command: ["sleep", "1000"],
      address: "10.99.0.40/24",
      environment: { PASSWORD: "geheim" },
    };
    for await (const _line of client.lines("POST", "/v1/applications", { body })) void _line;
    await client.json("DELETE", "/v1/applications/app", { headers: { "understudy-node": "node-a" } });
    await assert.rejects(
      client.json("POST", "/v1/applications/app/switch", { body: {} }),
      failure("application-unknown"),
    );
    const maria = (await audit()).filter(({ user }) => user === "user:maria");
    assert.deepEqual(
      maria.map(({ node, request, result }) => [node, request, result]),
      [
        ["node-b", "POST /v1/applications", "done"],
        ["node-a", "DELETE /v1/applications/app", "done"],
        ["node-b", "POST /v1/applications/app/switch", "application-unknown"],
      ],
    );
    assert.match(maria[0]!.body!, /"PASSWORD":"\(hidden\)"/);
    const trail = readFileSync(join(cluster.node("node-b").directory, "state/audit/audit.jsonl"), "utf8");
    assert.ok(!trail.includes("geheim") && !trail.includes(token.split(".")[2]!));
    assert.equal(statSync(join(cluster.node("node-b").directory, "state/audit/audit.jsonl")).mode & 0o777, 0o600);
    client.close();
  });

  it("keeps only hashes of tokens", async () => {
    const { token } = await addUser("hashed", "viewer");
    const joining = await root().json<JoinToken>("POST", "/v1/tokens", { body: {} });
    const files = readdirSync(cluster.directory).filter((file) => file.startsWith("store.db"));
    const store = Buffer.concat(files.map((file) => readFileSync(join(cluster.directory, file))));
    assert.ok(store.includes("users/hashed"));
    for (const secret of [token, joining.token]) assert.ok(!store.includes(secret.split(".")[2]!));
  });

  async function cli(...args: string[]): Promise<{ stdout: string; error: string }> {
    const environment = { ...process.env, UNDERSTUDY_NODE: join(cluster.node("node-b").run, "agent.sock") };
    return run(process.execPath, [cliProgram, ...args, "--json"], { env: environment }).then(
      ({ stdout }) => ({ stdout, error: "" }),
      (failure: { stdout: string }) => ({ stdout: "", error: JSON.parse(failure.stdout).error.code as string }),
    );
  }

  it("brings a node in by a token, once, through any agent; then it is one of them", async () => {
    const { host, port } = cluster.node("node-b");
    const { token } = JSON.parse((await cli("token")).stdout) as JoinToken;
    const ownPort = await freePort("127.0.0.3");
    const node = (name: string) => [
      "--name",
      name,
      "--listen",
      "127.0.0.3",
      "--port",
      String(ownPort),
      "--directory",
      join(cluster.directory, name),
    ];
    assert.equal((await cli("join", token, `${host}:${port}`, ...node("node-c"))).error, "");
    assert.equal((await cli("join", token, `${host}:${port}`, ...node("node-c"))).error, "node-exists");
    assert.equal((await cli("join", token, `${host}:${port}`, ...node("node-d"))).error, "token-refused");
    assert.equal(statSync(join(cluster.directory, "node-c/tls/node.key")).mode & 0o777, 0o600);
    await cluster.startJoined("node-c", "127.0.0.3", ownPort);
    await eventually(async () => {
      const all = await root().json<NodeReport[]>("GET", "/v1/nodes");
      return all.length === 3 && all.every(({ alive }) => alive) && all[2]?.name === "node-c";
    }, "It is a node");
    await cluster.protect("node-c", { standby: ["node-a"], address: "10.99.0.41/24" });
    await root().json("DELETE", "/v1/applications/app");
  });

  it("refuses join tokens that are expired, for another, of another cluster; and a name that is taken", async () => {
    const { host, port } = cluster.node("node-a");
    const attempt = async (token: string, name: string) => {
      const directory = join(cluster.directory, `try-${Math.random().toString(36).slice(2)}`);
      return (await cli("join", token, `${host}:${port}`, "--name", name, "--directory", directory)).error;
    };
    const make = async (...args: string[]) => (JSON.parse((await cli("token", ...args)).stdout) as JoinToken).token;
    assert.equal(await attempt(await make(), "node-b"), "node-known");
    assert.equal(await attempt(await make("--for", "node-x"), "node-y"), "token-refused");
    assert.equal(await attempt(await make("--for", "node-b"), "node-b"), "");
    const expiring = JSON.parse((await cli("token", "--ttl", "1s")).stdout) as JoinToken;
    await eventually(() => Date.now() > Date.parse(expiring.expiresAt), "It expires");
    assert.equal(await attempt(expiring.token, "node-z"), "token-refused");
    // It was not its use that made it worthless.
    assert.ok((await cli("token", "--list")).stdout.includes(expiring.id));
    const foreign = join(cluster.directory, "foreign-ca");
    await createAuthority(foreign);
    const { fingerprintOf } = await import("../../../src/cluster/pki.ts");
    const bent = (await make()).replace(/[^.]+$/, fingerprintOf(readFileSync(join(foreign, "ca.crt"), "utf8")));
    assert.equal(await attempt(bent, "node-z"), "foreign-authority");
    assert.equal(await attempt("uj1.x", "node-z"), "usage");
  });
});
