/** One fault in each phase, of those that `npm run test:faults` brings by the hundred (docs/faults.md). */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type FaultName, PHASE_NAMES, type PhaseName, planOf } from "../../faults/plan.ts";
import type { Outcome } from "../../faults/run.ts";
import { type FaultSite, openFaultSite } from "../../faults/site.ts";

const FAULTS: Record<PhaseName, FaultName> = {
  "first synchronisation": "link cut one way",
  dump: "capture killed",
  transfer: "clone frozen",
  acknowledge: "power-off",
  switch: "store majority lost",
  "after the switch": "agent killed",
};

let site: FaultSite;
const said: string[] = [];

before(
  async () => {
    const options = { say: (text: string) => void said.push(text) };
    site = await openFaultSite({ name: `flt${process.pid}`, store: "etcd", disks: false }, options);
  },
  { timeout: 150_000 },
);
after(() => site?.[Symbol.asyncDispose](), { timeout: 60_000 });

for (const [seed, phase] of PHASE_NAMES.entries())
  test(`${FAULTS[phase]}, ${phase}: nothing is lost, nothing is twice`, { timeout: 150_000 }, async (context) => {
    said.length = 0;
    const plan = planOf(seed, { store: "etcd", faults: [FAULTS[phase]], phases: [phase] });
    const [outcome] = await site.run.run([plan]);
    for (const text of said) context.diagnostic(text);
    assert.deepEqual(whyNot(outcome!), undefined);
  });

const whyNot = (outcome: Outcome) => (outcome.ok ? undefined : outcome.why);
