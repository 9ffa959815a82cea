/** The audit trail's file: appended to, rotated, read back also when its end is torn. */
import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { AuditTrail } from "../../../src/agent/audit.ts";
import { allows, roleNeeded, roles } from "../../../src/agent/roles.ts";

const directory = mkdtempSync(join(tmpdir(), "understudy-audit-"));
after(() => rmSync(directory, { recursive: true }));
const request = { user: "user:maria", node: "node-a", request: "DELETE /v1/applications/app" };

describe("audit trail", () => {
  it("has every request before it is done, and its result afterwards", () => {
    const path = join(directory, "a/audit.jsonl");
    const trail = new AuditTrail(path);
    const done = trail.begin(request);
    assert.deepEqual(
      new AuditTrail(path).list().map(({ user, result }) => [user, result]),
      [["user:maria", undefined]],
    );
    done("not-primary");
    done("done");
    assert.deepEqual(
      new AuditTrail(path).list().map(({ result }) => result),
      ["not-primary"],
    );
  });

  it("is only ever appended to, and reads past a torn line", () => {
    const path = join(directory, "b/audit.jsonl");
    new AuditTrail(path).begin(request)("done");
    const before = readFileSync(path);
    appendFileSync(path, '{"id":"torn","at":');
    appendFileSync(path, "\n");
    const trail = new AuditTrail(path);
    trail.begin(request)("done");
    assert.deepEqual(readFileSync(path).subarray(0, before.length), before);
    assert.equal(trail.list().length, 2);
  });

  it("is rotated, and only the oldest is forgotten", () => {
    const path = join(directory, "c/audit.jsonl");
    const trail = new AuditTrail(path, { fileBytes: 2000, filesKept: 3 });
    for (let number = 0; number < 100; number++) trail.begin({ ...request, body: { number } })("done");
    assert.deepEqual(readdirSync(join(directory, "c")).sort(), [
      "audit.jsonl",
      "audit.jsonl.1",
      "audit.jsonl.2",
      "audit.jsonl.3",
    ]);
    const numbers = trail.list().map(({ body }) => JSON.parse(body!).number as number);
    assert.equal(numbers.at(-1), 99);
    assert.ok(numbers.length > 10 && numbers.length < 60, String(numbers.length));
    assert.deepEqual(
      numbers,
      numbers.map((_, index) => 100 - numbers.length + index),
    );
  });

  it("hides what is secret, at any depth", () => {
    const path = join(directory, "d/audit.jsonl");
    const body = { environment: { A: "hidden-1" }, token: "hidden-2", more: [{ csr: "hidden-3", keep: 3 }] };
    new AuditTrail(path).begin({ ...request, body })("done");
    assert.ok(!readFileSync(path, "utf8").includes("hidden-"));
    assert.match(new AuditTrail(path).list()[0]!.body!, /"keep":3/);
  });
});

describe("roles", () => {
  it("each may what those before may", () => {
    for (const [index, role] of roles.entries())
      for (const [other, needed] of roles.entries()) assert.equal(allows(role, needed), index >= other);
  });

  it("what decides which programs run takes an admin, also by another way", () => {
    assert.equal(roleNeeded("POST", "/v1/applications"), "admin");
    assert.equal(roleNeeded("PUT", "/v1/applications/app"), "admin");
    assert.equal(roleNeeded("PUT", "/v1/anything-new"), "admin");
    assert.equal(roleNeeded("POST", "/v1/anything-new"), "operator");
    assert.equal(roleNeeded("GET", "/v1/applications/app/files/etc/passwd"), "operator");
  });
});
