/** Empties a node for maintenance: what runs there goes on elsewhere by planned switches, clones there are made elsewhere. */
import { setTimeout as sleep } from "node:timers/promises";
import { choosePrimary, chooseStandby, type Picture } from "../cluster/placement.ts";
import { missingStandbys, noPlacement, quoted, whyHeld, whyStays } from "../cluster/standbys.ts";
import { storeKeys } from "../cluster/store.ts";
import { OperatingError, toFailure } from "../kernel/failure.ts";
import type { DrainProgress, DrainResult, SwitchResult } from "./api-types.ts";
import type { AgentContext } from "./context.ts";
import { limits } from "./limits.ts";
import { switchPlanned } from "./operations.ts";
import { takePicture } from "./picture.ts";
import type { ApplicationRecord } from "./records.ts";
import { atPrimary } from "./route.ts";
import { wanted } from "./wanted.ts";

const POLL_MS = 200;
const SWITCH_TIMEOUT_MS = 60_000;

export interface DrainOptions {
  progress: (progress: DrainProgress) => void;
  /** Aborts when the asker has gone: what is under way is finished, nothing more begun; the node stays marked. */
  signal: AbortSignal;
}

/** @throws OperatingError `node-unknown`, `drain-stalled` */
export async function drain(context: AgentContext, node: string, options: DrainOptions): Promise<DrainResult> {
  await context.records.node(node);
  await mark(context, node);
  const moved: SwitchResult[] = [];
  const waits = new Map<string, string>();
  let seen = "";
  let changedMs = performance.now();
  for (;;) {
    options.signal.throwIfAborted();
    const here = (await context.records.applications()).values().filter((record) => isOn(record, node));
    const left = [...here];
    const health = await context.peers.health(node).catch(() => undefined);
    const instances = health?.instances.map(({ application }) => application) ?? [];
    if (left.length === 0 && instances.length === 0) return { node, moved };
    const picture = await takePicture(context);
    for (const record of left) {
      const { name } = record;
      const isPrimary = record.view!.value.primary === node;
      const why = isPrimary ? whyNotMoved(context, picture, record) : whyNotLeft(context, node, record);
      if (why !== undefined) {
        if (waits.get(name) !== why)
          options.progress({ step: "waiting", application: name, message: `"${name}" is still here: ${why}` });
        waits.set(name, why);
        continue;
      }
      waits.delete(name);
      if (!isPrimary) continue;
      const result = await moveAway(context, picture, record, options);
      if (result !== undefined) moved.push(result);
    }
    const now = JSON.stringify([left.map(({ view }) => view!.value), instances, moved.length]);
    if (now !== seen) changedMs = performance.now();
    seen = now;
    if (performance.now() - changedMs > limits.drainStallMs) throw stalled(node, left, instances, waits);
    await sleep(POLL_MS);
  }
}

export async function undrain(context: AgentContext, node: string): Promise<void> {
  const key = storeKeys.drained(node);
  const current = await context.store.get(key);
  if (current === undefined) {
    throw new OperatingError("node-not-drained", `"${node}" is not being emptied`, { remedy: "See: understudy nodes" });
  }
  await context.store.delete(key, current.revision);
  context.drained.delete(node);
  context.events.add({ kind: "node-undrained", message: `"${node}" may hold applications again`, details: { node } });
}

async function mark(context: AgentContext, node: string): Promise<void> {
  const swap = await context.store.compareAndSwap(storeKeys.drained(node), 0, { since: new Date().toISOString() });
  context.drained.add(node);
  if (swap.ok) context.events.add({ kind: "node-drained", message: `"${node}" is being emptied`, details: { node } });
}

/** The record counts on the node: its primary, or a clone that may take over. */
function isOn({ view }: ApplicationRecord, node: string): boolean {
  return view !== undefined && !view.value.ended && [view.value.primary, ...view.value.inSync].includes(node);
}

/**
 * Why it does not move yet; undefined: it may, for all standbys that can be had are in sync, so that it is protected after the switch
 * as before, and nobody waits.
 */
function whyNotMoved(context: AgentContext, picture: Picture, record: ApplicationRecord): string | undefined {
  const { name, spec, view, placement } = record;
  const shall = wanted(context, record);
  const inSync = shall.filter((node) => view!.value.inSync.includes(node));
  if (inSync.length === 0) return "no standby of it is in sync";
  // Who does not answer is not waited for.
  const missing = shall.filter((node) => !inSync.includes(node) && picture.nodes.get(node)?.open === true);
  if (missing.length > 0) return `${quoted(missing)} not in sync yet`;
  // One more clone is on its way, if there is a node for it.
  const lacking = missingStandbys(spec!.value, view!.value, placement?.value ?? noPlacement, context.drained);
  if (lacking > 0 && chooseStandby(picture, name) !== undefined) return "a node is being chosen for a clone of it";
  if (choosePrimary(picture, name, inSync) === undefined) return `${quoted(inSync)} in sync, but may not run it`;
  return whyHeld(spec!.value, inSync.length - 1);
}

/** Why the clone on the node is still there; undefined: it may go, and its agent will see to that. */
function whyNotLeft(context: AgentContext, node: string, { spec, view, placement }: ApplicationRecord) {
  return whyStays(node, spec!.value, view!.value, placement?.value, context.drained);
}

async function moveAway(
  context: AgentContext,
  picture: Picture,
  record: ApplicationRecord,
  { progress }: DrainOptions,
): Promise<SwitchResult | undefined> {
  const { name, view } = record;
  const inSync = wanted(context, record).filter((node) => view!.value.inSync.includes(node));
  const to = choosePrimary(picture, name, inSync)!;
  progress({ step: "switching", application: name, message: `Moving "${name}" to "${to}"` });
  try {
    const question = { application: name, method: "POST", path: `/v1/applications/${name}/switch`, body: { to } };
    const result = await atPrimary(context, { ...question, forwarded: false, timeoutMs: SWITCH_TIMEOUT_MS }, () =>
      switchPlanned(context, name, { to }),
    );
    // The next one shall find it there.
    picture.place(
      name,
      to,
      inSync.filter((node) => node !== to),
    );
    return result;
  } catch (error) {
    // It stays where it is, and is tried again.
    progress({ step: "failed", application: name, message: `"${name}" did not move: ${toFailure(error).message}` });
    return undefined;
  }
}

function stalled(
  node: string,
  left: ApplicationRecord[],
  instances: string[],
  waits: ReadonlyMap<string, string>,
): OperatingError {
  const names = [...new Set([...left.map(({ name }) => name), ...instances])];
  const applications = names.join(", ");
  const why = names.map((name) => (waits.has(name) ? `${name} (${waits.get(name)})` : name)).join(", ");
  return new OperatingError("drain-stalled", `"${node}" still has: ${why}`, {
    remedy:
      "See what keeps them with understudy status NAME. The node stays marked; understudy undrain takes that back.",
    details: { node, applications },
  });
}
