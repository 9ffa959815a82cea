/** Certificates that live for seconds: agents renew them, what is open goes on, what is opened anew shows the new one. */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { connect } from "node:tls";
import { AgentClient } from "../../../src/agent/client.ts";
import type { AgentEvent } from "../../../src/agent/events.ts";
import { tlsOptions } from "../../../src/cluster/tls.ts";
import { eventually, TestCluster } from "./harness.ts";

const LIFETIME_S = 15;

describe("renewal", { timeout: 180_000 }, () => {
  let cluster: TestCluster;
  before(async () => {
    cluster = await TestCluster.start(["node-a", "node-b"], { certificateSeconds: LIFETIME_S }, LIFETIME_S);
  });
  after(() => cluster.close());

  const filesOf = (node: string) => {
    const at = (file: string) => join(cluster.node(node).directory, "tls", file);
    return { ca: at("ca.crt"), certificate: at("node.crt"), key: at("node.key") };
  };
  const certificate = (node: string) => new X509Certificate(readFileSync(filesOf(node).certificate));

  /** What the node shows to who connects now. */
  async function shown(node: string): Promise<X509Certificate> {
    const { host, port } = cluster.node(node);
    const socket = connect({ ...(await tlsOptions(filesOf("node-a"))), host, port });
    await new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
    const { raw } = socket.getPeerCertificate();
    socket.destroy();
    return new X509Certificate(raw);
  }

  it("goes on past the end of the first certificates, with streams that were open before", async () => {
    const first = certificate("node-b");
    const { host, port } = cluster.node("node-b");
    const client = AgentClient.tls(`https://${host}:${port}`, await tlsOptions(filesOf("node-a")), "node-b");
    const kinds: string[] = [];
    const abort = new AbortController();
    let failure: unknown;
    const following = (async () => {
      const path = "/v1/events?follow=new&scope=node";
      for await (const { kind } of client.lines<AgentEvent>("GET", path, { signal: abort.signal })) kinds.push(kind);
    })().catch((error) => {
      if (!abort.signal.aborted) failure = error;
    });
    await cluster.protect("node-a", { standby: ["node-b"], environment: { FAKE_SYNC_MS: "10" } });
    const ended = () => Date.now() > Date.parse(first.validTo) + 1000;
    await eventually(ended, "The first certificate has ended", 60_000);
    await eventually(() => certificate("node-b").validTo !== first.validTo, "It is renewed", 60_000);
    const now = await shown("node-b");
    assert.notEqual(now.serialNumber, first.serialNumber);
    assert.ok(Date.parse(now.validTo) > Date.parse(first.validTo));
    assert.match(now.subjectAltName ?? "", new RegExp(`DNS:node-b, IP Address:${host}`));
    // Both ways between the agents, with new certificates and through the stream that was opened with old ones.
    const report = await cluster.report("node-a");
    assert.deepEqual(report.inSync, ["node-b"]);
    const moved = await cluster
      .node("node-b")
      .client.json<{ to: string }>("POST", "/v1/applications/app/switch", { body: {} });
    assert.equal(moved.to, "node-b");
    await eventually(
      () => kinds.includes("certificate-renewed") && kinds.includes("state-changed"),
      "The open stream goes on",
    );
    assert.equal(failure, undefined);
    abort.abort();
    await following;
    client.close();
  });

  it("tries on while nobody signs, and says so", async () => {
    await cluster.kill("node-a");
    const told = async () => {
      const events = await cluster.node("node-b").client.json<AgentEvent[]>("GET", "/v1/events?scope=node");
      return events.some(({ kind }) => kind === "certificate-not-renewed");
    };
    await eventually(told, "It says that it cannot", 60_000);
    // The signer's own certificate may have ended meanwhile: it signs itself another at its start.
    const before = certificate("node-a").serialNumber;
    await cluster.startAgent("node-a");
    const lives = () =>
      certificate("node-a").serialNumber !== before && Date.parse(certificate("node-a").validTo) > Date.now();
    await eventually(lives, "The signer has a certificate that counts", 60_000);
  });
});
