import assert from "node:assert/strict";
import { test } from "node:test";
import { type Evidence, type FailureKind, failureKind } from "../../../src/agent/diagnosis.ts";

const cases: [FailureKind, Evidence][] = [
  ["process", { how: "closed", instance: { there: true, answers: true }, reachedByOthers: [] }],
  ["process", { how: "silent", instance: { there: false, answers: false }, reachedByOthers: [] }],
  ["hang", { how: "silent", instance: { there: true, answers: false }, reachedByOthers: [] }],
  ["link", { how: "silent", instance: { there: true, answers: true }, reachedByOthers: [] }],
  ["link", { how: "silent", reachedByOthers: [false, true] }],
  ["node", { how: "silent", reachedByOthers: [false] }],
  ["node", { how: "failed", reachedByOthers: [false, false] }],
  ["unknown", { how: "silent", reachedByOthers: [] }],
];

for (const [kind, evidence] of cases) {
  test(`${kind}: ${JSON.stringify(evidence)}`, () => assert.equal(failureKind(evidence), kind));
}
