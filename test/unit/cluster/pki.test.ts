import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, stat } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { connect, createServer, type TLSSocket } from "node:tls";
import { createAuthority, issueCertificate, peerName, tlsOptions } from "../../../src/cluster/pki.ts";

let directory = "";
before(async () => {
  directory = await mkdtemp(join(tmpdir(), "understudy-pki-"));
  await createAuthority(join(directory, "ca"));
  await createAuthority(join(directory, "foreign-ca"));
});
after(() => rm(directory, { recursive: true }));

const issue = (authority: string, name: string) =>
  issueCertificate(join(directory, authority), {
    name,
    hosts: ["127.0.0.1", "::1"],
    outDirectory: join(directory, authority, name),
  });

async function converse(server: string, client: string): Promise<string | undefined> {
  const serverOptions = await tlsOptions(await issue("ca", server));
  const listener = createServer(serverOptions).listen(0, "127.0.0.1");
  await once(listener, "listening");
  listener.on("tlsClientError", () => {});
  try {
    const clientOptions = await tlsOptions(await issue(client, "node-b"));
    const accepted = once(listener, "secureConnection");
    const { port } = listener.address() as AddressInfo;
    const socket = connect({ ...clientOptions, host: "127.0.0.1", port });
    await once(socket, "secureConnect");
    assert.equal(peerName(socket), server);
    assert.equal(socket.getProtocol(), "TLSv1.3");
    const [peer] = (await accepted) as [TLSSocket];
    const name = peerName(peer);
    peer.destroy();
    socket.destroy();
    return name;
  } finally {
    listener.close();
  }
}

test("two nodes of one authority know each other by name", async () => {
  assert.equal(await converse("node-a", "ca"), "node-b");
});

test("a certificate of a foreign authority is refused", async () => {
  await assert.rejects(converse("node-a", "foreign-ca"), /certificate/);
});

test("keys are for root alone, and an authority is made once", async () => {
  const files = await issue("ca", "node-c");
  assert.equal((await stat(files.key)).mode & 0o777, 0o600);
  const before = await stat(join(directory, "ca", "ca.crt"));
  await createAuthority(join(directory, "ca"));
  assert.equal((await stat(join(directory, "ca", "ca.crt"))).mtimeMs, before.mtimeMs);
});

test("a missing authority and a bad name are told", async () => {
  await assert.rejects(issue("nowhere", "node-a"), { code: "authority-missing" });
  await assert.rejects(issue("ca", "node a"), { code: "name-invalid" });
});
