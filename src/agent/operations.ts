/** What an operator asks of a running application: checkpoint, switch, stop. */
import { setTimeout as sleep } from "node:timers/promises";
import type { ApplicationSpec, View } from "../cluster/spec.ts";
import type { CheckpointSummary } from "../instance/control.ts";
import { OperatingError } from "../kernel/failure.ts";
import type { Graph } from "../tree/graph.ts";
import type { SwitchRequest, SwitchResult } from "./api-types.ts";
import { removeClones } from "./clones.ts";
import type { AgentContext } from "./context.ts";
import { limits } from "./limits.ts";
import type { LocalInstance } from "./local-instance.ts";

/** The primary's instance here. @throws OperatingError `application-ended`, `not-primary`, `application-lost`, `recovering` */
async function primaryHere(
  context: AgentContext,
  name: string,
): Promise<{ instance: LocalInstance; spec: ApplicationSpec; view: View }> {
  const { spec, view } = await context.records.known(name);
  if (view?.value.ended) {
    throw new OperatingError("application-ended", `"${name}" has ended: ${view.value.ended.reason}`);
  }
  if (view?.value.primary !== context.node) {
    throw new OperatingError("not-primary", `"${context.node}" does not run "${name}"`);
  }
  const instance = context.instances.get(name);
  if (instance) return { instance, spec: spec.value, view: view.value };
  throw new OperatingError("no-instance", `"${name}" has no instance on its primary "${context.node}" at this moment`, {
    remedy: `Try again soon; if it stays so, see understudy status ${name}`,
  });
}

export async function checkpoints(context: AgentContext, name: string): Promise<CheckpointSummary[]> {
  const { instance } = await primaryHere(context, name);
  return instance.call("checkpoints", {}, limits.peerTimeoutMs);
}

export async function tree(context: AgentContext, name: string): Promise<Graph> {
  const { instance } = await primaryHere(context, name);
  return instance.call("tree", {}, limits.peerTimeoutMs);
}

export async function checkpointNow(context: AgentContext, name: string): Promise<CheckpointSummary> {
  const { instance } = await primaryHere(context, name);
  return instance.call("checkpoint", {});
}

/** Planned switch, asked of the primary's agent. @throws OperatingError `no-standby`, `not-in-sync`, the instance's failure */
export async function switchPlanned(
  context: AgentContext,
  name: string,
  request: SwitchRequest,
): Promise<SwitchResult> {
  const { instance, view } = await primaryHere(context, name);
  await instance.refresh();
  const standbys = instance.status?.standbys ?? [];
  const inSync = standbys.filter(({ state }) => state === "in-sync");
  const to = request.to ?? inSync.sort((a, b) => (a.lagMs ?? 0) - (b.lagMs ?? 0))[0]?.node;
  if (to === undefined) {
    throw new OperatingError("no-standby", `No standby of "${name}" is in sync`, {
      remedy: `See what the standbys do: understudy status ${name}`,
    });
  }
  if (to === context.node) {
    throw new OperatingError("already-primary", `"${name}" runs on "${to}" already`);
  }
  await context.records.node(to);
  if (!inSync.some(({ node }) => node === to)) {
    const state = standbys.find(({ node }) => node === to)?.state ?? "without a clone";
    throw new OperatingError("not-in-sync", `The standby "${to}" is ${state}, not in sync`, {
      remedy: `Wait until understudy status ${name} says in-sync.`,
      details: { application: name, node: to },
    });
  }
  const from = context.node;
  context.events.add({ kind: "switch-begun", application: name, message: `"${name}" moves from "${from}" to "${to}"` });
  const call = instance.call("switch", { to });
  context.switching.set(name, call);
  const result = await call
    .catch((error) => outcome(context, name, view, to, error))
    .finally(() => context.switching.delete(name));
  if (result.term <= view.term) {
    throw new OperatingError("switch-failed", `"${name}" is still in term ${result.term} on "${result.primary}"`);
  }
  context.wake();
  return { application: name, from, to: result.primary, term: result.term, stopMs: result.stopMs };
}

/**
 * The instance that made the switch has gone without a word: killed, or removed by the new primary's request for a clone. The
 * record knows what came of it.
 */
async function outcome(
  context: AgentContext,
  name: string,
  before: View,
  to: string,
  error: unknown,
): Promise<{ term: number; primary: string; stopMs: number | null }> {
  if (!(error instanceof OperatingError) || error.code !== "instance-gone") throw error;
  const deadline = performance.now() + limits.switchOutcomeMs;
  for (;;) {
    const { view } = await context.records.known(name);
    if (view && view.value.term > before.term && !view.value.inSync.includes(context.node)) {
      if (view.value.primary === to) return { term: view.value.term, primary: to, stopMs: null };
      throw error;
    }
    if (performance.now() > deadline) throw error;
    await sleep(50);
  }
}

/** Without the primary's help: the standby's own agent is asked, and its instance takes the term if the view lets it. */
export async function promoteHere(context: AgentContext, name: string, request: SwitchRequest): Promise<SwitchResult> {
  const { view } = await context.records.known(name);
  const instance = context.instances.get(name);
  if (instance?.status?.role !== "standby") {
    throw new OperatingError("no-clone", `"${context.node}" holds no clone of "${name}"`, {
      remedy: `See where clones are: understudy status ${name}`,
    });
  }
  const { checkpoint, force } = request;
  const promotion = { force: force ?? false, ...(checkpoint !== undefined && { checkpoint }) };
  const { term } = await instance.call("promote", promotion);
  context.wake();
  return { application: name, from: view?.value.primary ?? "", to: context.node, term, stopMs: null };
}

/** Promotes the node `request.to`, or else the first of those in sync that can. */
export async function promoteSomewhere(
  context: AgentContext,
  name: string,
  request: SwitchRequest,
): Promise<SwitchResult> {
  const { view } = await context.records.known(name);
  const nodes = request.to === undefined ? (view?.value.inSync ?? []) : [request.to];
  let failure: unknown = new OperatingError("no-standby", `No standby of "${name}" is in sync`, {
    remedy: `Name the node that shall take over with --to, if its clone is good enough.`,
  });
  for (const node of nodes) {
    try {
      if (node === context.node) return await promoteHere(context, name, request);
      const peer = await context.peers.client(node);
      return await peer.json<SwitchResult>("POST", `/v1/internal/promote/${name}`, {
        body: request,
        timeoutMs: 60_000,
      });
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

/** Ends the application everywhere; on its primary, or with `force` on any node when the primary does not answer. */
export async function stop(context: AgentContext, name: string): Promise<{ application: string }> {
  context.protecting.get(name)?.abort(new OperatingError("stopped", `"${name}" was stopped`));
  return context.locks.run(name, async () => {
    const { spec } = await context.records.known(name);
    const instance = context.instances.get(name);
    // The instance ends the application and the view itself, so that no standby sees a silence to suspect.
    await instance?.call("stop", {}, limits.stopTimeoutMs).catch(() => {});
    await context.records.end(name, "stopped by the operator");
    await context.instances.remove(name, true);
    await removeClones(context, name);
    await context.records.forget(name, spec.value.createdAt);
    context.problems.delete(name);
    context.backoff.forget(`${name}/`);
    context.events.add({ kind: "application-stopped", application: name, message: `"${name}" is stopped` });
    return { application: name };
  });
}
