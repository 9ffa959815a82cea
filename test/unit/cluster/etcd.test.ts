import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { request as requestHttps } from "node:https";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openStore } from "../../../src/cluster/open.ts";
import { createAuthority, issueCertificate, type TlsFiles } from "../../../src/cluster/pki.ts";
import type { ClusterStore } from "../../../src/cluster/store.ts";
import { storeSuite } from "./store.case.ts";

const skip = spawnSync("etcd", ["--version"]).status === 0 ? undefined : "etcd is not installed (Debian: etcd-server)";
const directory = mkdtempSync(join(tmpdir(), "understudy-etcd-"));
const members: { process: ChildProcess; endpoint: string }[] = [];
let files: TlsFiles;

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return ports;
}

/** Three members with certificates of the cluster's authority, as on three nodes. */
before(async () => {
  if (skip !== undefined) return;
  await createAuthority(join(directory, "ca"));
  files = await issueCertificate(join(directory, "ca"), {
    name: "node-a",
    hosts: ["127.0.0.1"],
    outDirectory: join(directory, "tls"),
  });
  const ports = await freePorts(6);
  const peers = [0, 1, 2].map((index) => `https://127.0.0.1:${ports[2 * index + 1]}`);
  for (const index of [0, 1, 2]) {
    const client = `https://127.0.0.1:${ports[2 * index]}`;
    const security = [
      `--cert-file=${files.certificate}`,
      `--key-file=${files.key}`,
      `--trusted-ca-file=${files.ca}`,
      "--client-cert-auth",
    ];
    const peerSecurity = [
      `--peer-cert-file=${files.certificate}`,
      `--peer-key-file=${files.key}`,
      `--peer-trusted-ca-file=${files.ca}`,
      "--peer-client-cert-auth",
    ];
    const process = spawn(
      "etcd",
      [
        `--name=m${index}`,
        `--data-dir=${join(directory, `m${index}`)}`,
        `--listen-client-urls=${client}`,
        `--advertise-client-urls=${client}`,
        `--listen-peer-urls=${peers[index]}`,
        `--initial-advertise-peer-urls=${peers[index]}`,
        `--initial-cluster=${peers.map((peer, at) => `m${at}=${peer}`).join(",")}`,
        "--heartbeat-interval=50",
        "--election-timeout=500",
        "--log-level=error",
        ...security,
        ...peerSecurity,
      ],
      { stdio: "ignore" },
    );
    members.push({ process, endpoint: `127.0.0.1:${ports[2 * index]}` });
  }
  const store = await open();
  for (let attempt = 0; ; attempt++) {
    try {
      await store.get("ready");
      break;
    } catch (error) {
      if (attempt > 60) throw error;
      await sleep(100);
    }
  }
  store.close();
});

after(async () => {
  for (const { process } of members) {
    if (process.exitCode !== null || process.signalCode !== null) continue;
    const ended = once(process, "exit");
    process.kill("SIGKILL");
    await ended;
  }
  rmSync(directory, { recursive: true });
});

const open = (): Promise<ClusterStore> =>
  openStore(`etcd://${members.map(({ endpoint }) => endpoint).join(",")}`, files);

storeSuite({ name: "etcd", open, skip });

describe("etcd with members that fail", skip === undefined ? {} : { skip }, () => {
  test("one member lost is served by the others, watches too; a majority lost is told; back again it goes on", async () => {
    const store = await open();
    const made = await store.compareAndSwap("fault", 0, 0);
    assert.ok(made.ok);
    const seen: unknown[] = [];
    store.watch("fault", (change) => seen.push(change.value), AbortSignal.timeout(60_000));
    await sleep(200);
    // The one that is asked now, and its silence is that of a dead machine: no goodbye.
    members[0]!.process.kill("SIGSTOP");
    let revision = made.revision;
    for (let value = 1; value <= 3; value++) revision = await swapSurely(store, "fault", revision, value);
    await until(() => seen.at(-1) === 3);
    members[1]!.process.kill("SIGSTOP");
    await assert.rejects(store.compareAndSwap("fault", revision, 4), { code: "store-unreachable" });
    members[0]!.process.kill("SIGCONT");
    const found = await readSurely(store, "fault");
    await swapSurely(store, "fault", found.revision, 5);
    await until(() => seen.at(-1) === 5);
    members[1]!.process.kill("SIGCONT");
    store.close();
  });

  test("a change whose answer is lost is made again, and known as done; what another did is never taken for it", async () => {
    const other = await open();
    await using answers = await losing(members[2]!.endpoint, files);
    const store = await openStore(`etcd://${answers.endpoint}`);
    const lost = <T>(change: Promise<T>) => {
      answers.lose();
      return change;
    };
    const first = await lost(store.compareAndSwap("lost", 0, 1));
    assert.ok(first.ok);
    assert.deepEqual(await store.get("lost"), { value: 1, revision: first.revision });
    assert.deepEqual(await lost(store.compareAndSwap("lost", 0, 1)), {
      ok: false,
      current: { value: 1, revision: first.revision },
    });
    assert.deepEqual(await lost(store.delete("lost", first.revision)), { ok: true });
    assert.deepEqual(await lost(store.delete("lost", first.revision)), { ok: false, current: undefined });
    const second = await store.compareAndSwap("lost", 0, 2);
    assert.ok(second.ok);
    assert.deepEqual(await other.delete("lost", second.revision), { ok: true });
    assert.deepEqual(await lost(store.delete("lost", second.revision)), { ok: false, current: undefined });
    assert.equal(answers.lost, 5);
    store.close();
    other.close();
  });

  test("a client without certificate is refused", async () => {
    const store = await openStore(`etcd://${members[0]!.endpoint}`);
    await assert.rejects(store.get("fault"), { code: "store-unreachable" });
    store.close();
  });
});

/** A member's word to clients without certificate; told so, it keeps the next answer to itself, once the member has given it. */
async function losing(endpoint: string, { ca, certificate, key }: TlsFiles) {
  const [host, port] = endpoint.split(":");
  const tls = { ca: readFileSync(ca), cert: readFileSync(certificate), key: readFileSync(key) };
  let losesNext = false;
  let lost = 0;
  const server = createHttpServer((request, response) => {
    const loses = losesNext;
    losesNext = false;
    const { method, headers, url: path } = request;
    const onward = requestHttps({ host, port, method, headers, path, ...tls }, (answer) => {
      if (loses) answer.resume().once("end", () => lost++);
      else answer.pipe(response.writeHead(answer.statusCode!, answer.headers));
    });
    onward.on("error", () => response.destroy());
    request.pipe(onward);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    endpoint: `127.0.0.1:${(server.address() as { port: number }).port}`,
    lose: () => {
      losesNext = true;
    },
    get lost() {
      return lost;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await once(server.close(), "close");
    },
  };
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 15_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, "never came");
    await sleep(20);
  }
}

async function readSurely(store: ClusterStore, key: string): Promise<{ value: unknown; revision: number }> {
  for (let attempt = 0; ; attempt++) {
    try {
      return (await store.get(key))!;
    } catch (error) {
      if (attempt > 20) throw error;
      await sleep(100);
    }
  }
}

/** As the view machine does: after an unknown outcome reads, and tries again if it was not done. */
async function swapSurely(store: ClusterStore, key: string, revision: number, value: unknown): Promise<number> {
  for (let attempt = 0; ; attempt++) {
    try {
      const result = await store.compareAndSwap(key, revision, value);
      if (result.ok) return result.revision;
      assert.deepEqual(result.current?.value, value);
      return result.current!.revision;
    } catch (error) {
      if (attempt > 20) throw error;
      const found = await readSurely(store, key);
      if (found.revision !== revision) {
        assert.deepEqual(found.value, value);
        return found.revision;
      }
    }
  }
}
