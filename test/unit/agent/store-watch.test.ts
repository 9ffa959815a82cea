/** What an operator is told while the cluster store does not answer. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { AgentContext } from "../../../src/agent/context.ts";
import { KnownRecords } from "../../../src/agent/known-records.ts";
import { report, reportAll } from "../../../src/agent/report.ts";
import { watchStore } from "../../../src/agent/store-watch.ts";
import { applicationDefaults } from "../../../src/cluster/spec.ts";
import type { Change, ClusterStore } from "../../../src/cluster/store.ts";
import { OperatingError } from "../../../src/kernel/failure.ts";

const away = () => Promise.reject(new OperatingError("store-unreachable", "The cluster store does not answer"));

test("a store that goes away and comes back is told once each; one lost answer is not", async () => {
  const answers = [true, false, true, false, false, false, true, true];
  const told: string[] = [];
  const end = new AbortController();
  const context = {
    node: "a",
    storeAway: false,
    events: { add: ({ kind }: { kind: string }) => told.push(`${kind} ${context.storeAway}`) },
    store: {
      get: () => {
        const answer = answers.shift();
        if (answers.length === 0) end.abort();
        return answer === false ? away() : Promise.resolve(undefined);
      },
    },
  };
  await watchStore(context as unknown as AgentContext, end.signal, 1);
  assert.deepEqual(told, ["store-unreachable true", "store-answers false"]);
});

test("applications are told of as the store told last", async () => {
  const known = new KnownRecords();
  let listener: (change: Change) => void = () => {};
  known.follow(
    { watch: (_: string, told: (change: Change) => void) => (listener = told) } as unknown as ClusterStore,
    () => {},
    AbortSignal.abort(),
  );
  const spec = {
    ...applicationDefaults,
    name: "app",
    command: ["sleep"],
    address: "10.0.0.1/24",
    home: "b",
    standby: [],
  };
  listener({ key: "applications/app/spec", value: spec, revision: 1 });
  listener({ key: "applications/app/view", value: { term: 4, primary: "b", inSync: ["a"] }, revision: 2 });
  const context = {
    node: "a",
    storeAway: false,
    known,
    records: { known: away, applications: away },
    drained: new Set(),
    placed: new Map(),
    problems: new Map(),
    instances: { get: () => undefined },
    peers: { client: away },
  } as unknown as AgentContext;
  const { state, term, primary, inSync, stale } = await report(context, "app");
  assert.deepEqual([state, term, primary, inSync, stale], ["unreachable", 4, "b", ["a"], true]);
  assert.equal((await reportAll(context))[0]?.term, 4);
  await assert.rejects(report(context, "other"), { code: "store-unreachable" });
  // Once it is known to be away it is not waited for.
  context.storeAway = true;
  context.records.known = () => sleep(60_000, undefined, { ref: false }) as never;
  assert.equal((await report(context, "app")).stale, true);
});
