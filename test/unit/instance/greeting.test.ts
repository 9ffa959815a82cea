/** What a clone says that cannot be made reaches the operator as what it is. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { greet, StandbyLink } from "../../../src/instance/standby-link.ts";
import { diskFull } from "../../../src/kernel/disk-full.ts";
import { type OperatingError, toFailure } from "../../../src/kernel/failure.ts";
import type { Message } from "../../../src/replication/frames.ts";
import type { Link } from "../../../src/replication/link.ts";

const clocks = () => ({ monotonic: 0n, boottime: 0n });
const greeting = { application: "app", node: "a", term: 1, stream: 1 } as unknown as Parameters<typeof greet>[1];

/** Greets a clone that refuses with this. */
function refused(answer: Omit<Message & { type: "refused" }, "type">): Promise<unknown> {
  const link = { send: () => {}, onMessage: (_: Message) => {}, onClose: () => {} };
  const standby = new StandbyLink("b", link as unknown as Link);
  const greeted = greet(standby, greeting, clocks).then(
    () => assert.fail("it was accepted"),
    (error: OperatingError) => toFailure(error),
  );
  link.onMessage({ type: "refused", ...answer });
  return greeted;
}

test("a full disk at the clone's is told with its remedy", async () => {
  const cause = Object.assign(new Error("ENOSPC: no space left on device, mkdir 'upper'"), { code: "ENOSPC" });
  const failure = toFailure(diskFull(cause, "b", "/var/lib/understudy"));
  assert.deepEqual(await refused({ reason: cause.message, failure }), {
    code: "disk-full",
    message: '"b" has no space left for a clone in "/var/lib/understudy"',
    remedy: "Make room there; the clone is then made by itself.",
    details: { node: "b", directory: "/var/lib/understudy" },
  });
});

test("what else it refuses for is told as the clone's refusal", async () => {
  const told = { code: "clone-refuses", message: 'The clone on node "b" refuses: why', details: { node: "b" } };
  assert.deepEqual(await refused({ reason: "why" }), told);
  const failure = toFailure(diskFull(new Error("why"), "b", "/var/lib/understudy"));
  assert.deepEqual(await refused({ reason: "why", failure }), told);
});
