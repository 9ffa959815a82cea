import assert from "node:assert/strict";
import { test } from "node:test";
import { type Evidence, type FailureKind, failureKind } from "../../../src/agent/diagnosis.ts";

const cases: [FailureKind | undefined, Omit<Evidence, "overtaken">, boolean?][] = [
  ["process", { how: "closed", instance: { there: true, answers: true }, reachedByOthers: [] }],
  ["process", { how: "silent", instance: { there: false, answers: false }, reachedByOthers: [] }],
  ["hang", { how: "silent", instance: { there: true, answers: false }, reachedByOthers: [] }],
  ["link", { how: "silent", instance: { there: true, answers: true }, reachedByOthers: [] }],
  ["link", { how: "silent", reachedByOthers: [false, true] }],
  ["node", { how: "silent", reachedByOthers: [false] }],
  ["node", { how: "failed", reachedByOthers: [false, false] }],
  ["unknown", { how: "silent", reachedByOthers: [] }],
  // A switch: the standby has ended the stream.
  [undefined, { how: "closed", instance: { there: true, answers: true }, reachedByOthers: [] }, true],
  [undefined, { how: "failed", instance: { there: true, answers: true }, reachedByOthers: [] }, true],
  ["link", { how: "silent", instance: { there: true, answers: true }, reachedByOthers: [] }, true],
  ["process", { how: "closed", instance: { there: false, answers: false }, reachedByOthers: [] }, true],
  ["node", { how: "failed", reachedByOthers: [false] }, true],
];

for (const [kind, seen, overtaken = false] of cases) {
  const evidence = { ...seen, overtaken };
  test(`${kind}: ${JSON.stringify(evidence)}`, () => assert.equal(failureKind(evidence), kind));
}
