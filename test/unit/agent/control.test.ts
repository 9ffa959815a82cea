/** Both ends of the control protocol. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { ControlClient } from "../../../src/instance/client.ts";
import { type ControlHandlers, ControlServer } from "../../../src/instance/server.ts";
import { OperatingError } from "../../../src/kernel/failure.ts";

describe("control protocol", () => {
  let directory: string;
  let path: string;
  let server: ControlServer;
  let release: () => void = () => {};
  const handlers: Partial<ControlHandlers> = {
    checkpoint: () =>
      new Promise((_, reject) => {
        release = () => reject(new OperatingError("no", "No", { remedy: "Ask later", details: { a: 1 } }));
      }),
    switch: async ({ to }) => ({ term: 2, primary: to, stopMs: 1 }),
    checkpoints: async () => [],
  };

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "understudy-control-"));
    path = join(directory, "app.sock");
    server = new ControlServer(path, handlers as ControlHandlers);
    await server.listen();
  });
  afterEach(async () => {
    await server.close(10);
    rmSync(directory, { recursive: true });
  });

  it("answers requests in any order and carries failures whole", async () => {
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const client = await ControlClient.connect(path);
    const slow = client.call("checkpoint", {});
    assert.equal((await client.call("switch", { to: "node-b" })).primary, "node-b");
    assert.deepEqual(await client.call("checkpoints", {}), []);
    release();
    await assert.rejects(slow, { code: "no", message: "No", remedy: "Ask later", details: { a: 1 } });
    await assert.rejects(client.call("status", {}), { code: "unknown-method" });
    client.close();
  });

  it("tells every client of events", async () => {
    const clients = await Promise.all([ControlClient.connect(path), ControlClient.connect(path)]);
    await Promise.all(clients.map((client) => client.call("checkpoints", {})));
    const heard = clients.map((client) => new Promise((resolve) => client.once("note", resolve)));
    const note = { at: "now", kind: "test", message: "ü\n" };
    server.emit("note", note);
    assert.deepEqual(await Promise.all(heard), [note, note]);
    for (const client of clients) client.close();
  });

  it("fails what is open when the instance ends or stays silent", async () => {
    const client = await ControlClient.connect(path);
    await assert.rejects(client.call("checkpoint", {}, { timeoutMs: 20 }), { code: "instance-silent" });
    const open = client.call("checkpoint", {});
    const closed = new Promise((resolve) => client.once("close", () => resolve(true)));
    await Promise.all([server.close(10), assert.rejects(open, { code: "instance-gone" })]);
    assert.equal(await closed, true);
    assert.equal(existsSync(path), false);
    await assert.rejects(client.call("checkpoints", {}), { code: "instance-gone" });
    await assert.rejects(ControlClient.connect(path), { code: "ENOENT" });
  });

  it("ends a connection that does not speak the protocol, and no other", async () => {
    const client = await ControlClient.connect(path);
    const stranger = connect(path);
    await new Promise((resolve) => stranger.once("close", resolve).end("GET / HTTP/1.0\r\n\r\n").resume());
    assert.deepEqual(await client.call("checkpoints", {}), []);
    client.close();
  });

  it("takes the place of a dead predecessor's socket", async () => {
    const next = new ControlServer(path, handlers as ControlHandlers);
    await next.listen();
    const client = await ControlClient.connect(path);
    assert.deepEqual(await client.call("checkpoints", {}), []);
    client.close();
    await next.close(10);
  });
});
