/** The agent's small parts: configuration, pace, locks, events, program look-up. */
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { Backoff } from "../../../src/agent/backoff.ts";
import { parseConfig, readConfig } from "../../../src/agent/config.ts";
import { EventLog } from "../../../src/agent/events.ts";
import { limits } from "../../../src/agent/limits.ts";
import { Locks } from "../../../src/agent/locks.ts";
import { checkProgram, parseProtectRequest } from "../../../src/agent/protect-request.ts";
import { OperatingError } from "../../../src/kernel/failure.ts";

const good = `name: node-a
listen:
  host: 10.0.0.1
store: sqlite:/tmp/store.db
tls:
  ca: /ca
  certificate: /certificate
  key: /key
`;

const fails =
  (code: string, pattern = /./) =>
  (error: unknown) => {
    assert.ok(error instanceof OperatingError);
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    return true;
  };

describe("configuration", () => {
  it("fills in what is usual", () => {
    const config = parseConfig(good, "a.yaml");
    assert.equal(config.listen.port, 7700);
    assert.equal(config.bridge, "br0");
    assert.equal(config.runDirectory, "/run/understudy");
    assert.match(config.instanceProgram, /src\/instance\/main\.ts$/);
  });

  it("names file, line and key of every mistake", () => {
    const bad = good
      .replace("10.0.0.1", "here")
      .replace("/ca", "ca")
      .replace("name: node-a", "name: node-a\ncolour: red");
    assert.throws(
      () => parseConfig(bad, "a.yaml"),
      (error: Error) => {
        assert.match(error.message, /a\.yaml:2: "colour"/);
        assert.match(error.message, /a\.yaml:4: "listen\.host": must be an IP address/);
        assert.match(error.message, /a\.yaml:7: "tls\.ca": must be an absolute path/);
        return fails("config-invalid")(error);
      },
    );
    assert.throws(() => parseConfig("name: [", "a.yaml"), fails("config-invalid", /^a\.yaml:1: /));
    assert.throws(() => parseConfig("", "a.yaml"), fails("config-invalid", /"name"/));
    assert.throws(() => readConfig("/no/such/file"), fails("config-unreadable", /\/no\/such\/file/));
  });
});

describe("request to protect", () => {
  const request = { name: "app", command: ["sleep", "1"], address: "10.0.0.10/24" };

  it("becomes a specification with everything filled in", () => {
    const { spec, wait } = parseProtectRequest("node-a", {
      ...request,
      standby: ["node-b", "node-b"],
      environment: { A: "1" },
    });
    assert.equal(wait, true);
    assert.deepEqual(spec.standby, ["node-b"]);
    assert.equal(spec.home, "node-a");
    assert.equal(spec.environment.A, "1");
    assert.ok(spec.environment.PATH);
    assert.ok(!("wait" in spec));
  });

  it("refuses what cannot be meant", () => {
    for (const wrong of [
      null,
      5,
      {},
      { ...request, command: [] },
      { ...request, keep: 0 },
      { ...request, colour: 1 },
      { ...request, period: "fast" },
    ]) {
      assert.throws(() => parseProtectRequest("node-a", wrong), fails("request-invalid"));
    }
    for (const name of ["", "A", "agent", "a/b", "-a", "a-", "..", "a".repeat(32)]) {
      assert.throws(() => parseProtectRequest("node-a", { ...request, name }), fails("request-invalid", /name/));
    }
    for (const address of [
      "",
      "10.0.0.1",
      "10.0.0.1/33",
      "10.0.0.1/0",
      "300.0.0.1/24",
      "10.0.0.1/24/1",
      "10.0.0.1/x",
    ]) {
      assert.throws(
        () => parseProtectRequest("node-a", { ...request, address }),
        fails("request-invalid", /"address": .*; allowed: an IPv4 address with prefix length/),
      );
    }
  });
});

describe("program look-up", () => {
  const directory = mkdtempSync(join(tmpdir(), "understudy-program-"));
  after(() => rmSync(directory, { recursive: true }));
  const check = (program: string, PATH = directory) =>
    checkProgram({ command: [program], environment: { PATH }, workingDirectory: directory });

  it("finds as execvp does", () => {
    writeFileSync(join(directory, "tool"), "");
    assert.throws(() => check("tool"), fails("program-not-executable"));
    chmodSync(join(directory, "tool"), 0o755);
    for (const program of ["tool", "./tool", join(directory, "tool")])
      assert.equal(check(program), join(directory, "tool"));
    assert.throws(() => check("tool", "/nowhere"), fails("program-not-found", /"tool"/));
    assert.throws(() => check(directory), fails("program-not-found"));
  });
});

describe("pace", () => {
  it("waits longer after each failure, never makes two attempts at once", () => {
    const backoff = new Backoff();
    let nowMs = 0;
    const waits: number[] = [];
    for (let attempt = 0; attempt < 6; attempt++) {
      assert.ok(backoff.ready("a/b", nowMs));
      backoff.begin("a/b");
      assert.ok(!backoff.ready("a/b", nowMs + 1e9));
      backoff.failed("a/b", nowMs);
      const from = nowMs;
      while (!backoff.ready("a/b", nowMs)) nowMs += 50;
      waits.push(nowMs - from);
    }
    assert.deepEqual(waits, [500, 1000, 2000, 4000, 5000, 5000]);
    assert.ok(backoff.ready("a/c", 0));
    backoff.forget("a/");
    assert.ok(backoff.ready("a/b", 0));
  });
});

describe("locks", () => {
  it("run one after the other, also after a failure, and are gone afterwards", async () => {
    const locks = new Locks();
    const order: number[] = [];
    const work = (n: number, fail = false) =>
      locks.run("a", async () => {
        order.push(n);
        await new Promise((resolve) => setTimeout(resolve, 5));
        order.push(n);
        if (fail) throw new Error("no");
      });
    const results = await Promise.allSettled([work(1), work(2, true), work(3)]);
    assert.deepEqual(order, [1, 1, 2, 2, 3, 3]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ["fulfilled", "rejected", "fulfilled"],
    );
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(locks.held("a"), false);
  });
});

describe("events", () => {
  it("keeps the last ones and tells followers until they leave", () => {
    const log = new EventLog("node-a");
    const heard: number[] = [];
    const abort = new AbortController();
    log.follow(({ sequence }) => heard.push(sequence), abort.signal);
    for (let n = 0; n < limits.eventsKept + 5; n++) {
      if (n === 3) abort.abort();
      log.add({ kind: "test", message: String(n), application: n % 2 ? "odd" : "even" });
    }
    assert.deepEqual(heard, [1, 2, 3]);
    assert.equal(log.list().length, limits.eventsKept);
    assert.equal(log.list()[0]?.sequence, 6);
    assert.equal(log.list("odd").length, limits.eventsKept / 2);
  });
});
