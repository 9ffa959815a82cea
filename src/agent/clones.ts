/** Clones: made and removed on this node for another node's primary, and asked for on other nodes. */
import { setTimeout as sleep } from "node:timers/promises";
import type { ApplicationSpec, View } from "../cluster/spec.ts";
import { keptBytes } from "../files/kept-images.ts";
import { diskFull } from "../kernel/disk-full.ts";
import { OperatingError, toFailure } from "../kernel/failure.ts";
import { checkRoom } from "../stage/disk.ts";
import type { CloneAnswer, CloneRequest } from "./api-types.ts";
import type { AgentContext } from "./context.ts";
import { limits } from "./limits.ts";

/**
 * Makes a clone here and answers where its stream listens. An instance that waits for a primary is taken as it is; else what is
 * left here of the application goes first, but its files are put aside for what the clone can take from them.
 * @throws OperatingError `not-primary` (the asker has lost the term), `still-in-sync` (the clone here may be the
 * application's only copy), or why the instance did not start
 */
export function createClone(context: AgentContext, name: string, request: CloneRequest): Promise<CloneAnswer> {
  return context.locks.run(name, async () => {
    const { spec, view } = await context.records.known(name);
    checkRequest(context.node, name, request, spec.value.createdAt, view?.value);
    // An instance that has just handed over learns a moment later that it has, and says so to whoever asked for it.
    const ended = context.switching.get(name)?.catch(() => {});
    if (ended) await Promise.race([ended, sleep(limits.handOverGraceMs)]);
    const waiting = await waitingInstance(context, name, request.createdAt);
    if (waiting) return waiting;
    await context.instances.remove(name, false, "aside");
    checkDiskRoom(context, spec.value);
    try {
      const instance = context.instances.start(spec.value, "standby");
      const ready = await instance.until((status) => status.stream !== undefined, {
        timeoutMs: limits.cloneStartTimeoutMs,
        pollMs: 10,
      });
      return ready.stream!;
    } catch (error) {
      await context.instances.remove(name, false, "aside");
      throw diskFull(error, context.node, context.config.stateDirectory);
    }
  });
}

/**
 * Where the instance that is here already listens: a standby whose primary is another one now, or was lost, goes on with the next
 * stream that it accepts. It takes no start of a process, and the clone it holds is given up only when that stream begins.
 */
async function waitingInstance(
  context: AgentContext,
  name: string,
  createdAt: string,
): Promise<CloneAnswer | undefined> {
  const instance = context.instances.get(name);
  if (!instance?.connected || instance.createdAt !== createdAt) return undefined;
  const status = await instance.call("status", {}, limits.statusTimeoutMs).catch(() => undefined);
  if (status?.role !== "standby" || status.worn || status.state === "switching") return undefined;
  return status.stream;
}

/** What is kept of earlier clones makes way for the new one. @throws OperatingError `disk-no-room` */
function checkDiskRoom({ layout }: AgentContext, { name, disk }: ApplicationSpec): void {
  if (disk > 0) checkRoom(layout.stateDirectory(name), disk - keptBytes(layout.keptDirectory(name)));
}

function checkRequest(
  node: string,
  name: string,
  request: CloneRequest,
  createdAt: string,
  view: View | undefined,
): void {
  const { primary, term } = request;
  if (
    createdAt !== request.createdAt ||
    view === undefined ||
    view.ended ||
    view.primary !== primary ||
    view.term !== term
  ) {
    throw new OperatingError("not-primary", `"${primary}" is not the primary of "${name}" in term ${term} any more`);
  }
  if (primary === node) throw new OperatingError("not-primary", `"${node}" cannot hold a clone of its own application`);
  // Whatever an in-sync standby holds must survive until the primary has taken it off the view.
  if (view.inSync.includes(node)) {
    throw new OperatingError("still-in-sync", `The view of "${name}" still counts on the clone on "${node}"`);
  }
}

/** Removes the clone here. Refuses on the primary: nobody gives up the application itself by this way. */
export function removeClone(context: AgentContext, name: string, createdAt: string): Promise<void> {
  return context.locks.run(name, async () => {
    const { spec, view } = await context.records.application(name);
    const sameApplication = spec?.value.createdAt === createdAt;
    if (sameApplication && view?.value.primary === context.node && !view.value.ended) {
      throw new OperatingError("is-primary", `"${context.node}" runs "${name}" and has no clone of it to remove`);
    }
    if (spec && !sameApplication) return;
    await context.instances.remove(name, true);
  });
}

/** Has the node make a clone and tells the instance here (the primary) where it is. Answers when they are connected. */
export async function bringClone(context: AgentContext, name: string, node: string): Promise<void> {
  const { spec, view } = await context.records.known(name);
  const instance = context.instances.get(name);
  if (!instance || view?.value.primary !== context.node) {
    throw new OperatingError("not-primary", `"${context.node}" does not run "${name}" any more`);
  }
  const request: CloneRequest = { primary: context.node, term: view.value.term, createdAt: spec.value.createdAt };
  const peer = await context.peers.client(node);
  const stream = await context.peers.whileHealthy(node, (signal) =>
    peer.json<CloneAnswer>("POST", `/v1/internal/clones/${name}`, {
      body: request,
      timeoutMs: limits.cloneStartTimeoutMs + 5_000,
      signal,
    }),
  );
  await instance.call("addStandby", { node, ...stream }, limits.cloneStartTimeoutMs);
}

/** The same, paced and recorded: what reconciling and `protect` call. Fails like `bringClone`. */
export async function tryClone(context: AgentContext, name: string, node: string): Promise<void> {
  const key = `${name}/${node}`;
  context.backoff.begin(key);
  try {
    await bringClone(context, name, node);
    context.backoff.succeeded(key, performance.now());
    context.problems.get(name)?.delete(node);
    context.events.add({
      kind: "standby-connected",
      application: name,
      message: `"${node}" holds a clone of "${name}" and is being synchronised`,
      details: { node },
    });
  } catch (error) {
    context.backoff.failed(key, performance.now());
    reportProblem(context, name, node, error);
    throw error;
  }
}

/** Says it once per failure, not at every attempt. */
function reportProblem(context: AgentContext, name: string, node: string, error: unknown): void {
  const failure = toFailure(error);
  const problems = context.problems.get(name) ?? new Map();
  const before = problems.get(node);
  problems.set(node, failure);
  context.problems.set(name, problems);
  if (before?.code === failure.code) return;
  context.events.add({
    kind: "standby-failed",
    application: name,
    message: `No clone of "${name}" on "${node}": ${failure.message}`,
    details: { node, failure },
  });
}

/** Removes the clones on all nodes that may have one; a node that does not answer cleans up when it is back. */
export async function removeClones(context: AgentContext, name: string): Promise<void> {
  const record = await context.records.application(name);
  const { spec, view, placement } = record;
  if (!spec) return;
  const primary = view?.value.primary ?? context.node;
  const others = [...spec.value.standby, spec.value.home, ...(placement?.value.extra ?? [])];
  const nodes = new Set([...others, ...(view?.value.inSync ?? []), primary]);
  nodes.delete(context.node);
  await Promise.all(
    [...nodes].map(async (node) => {
      try {
        const peer = await context.peers.client(node);
        const path = `/v1/internal/clones/${name}?createdAt=${encodeURIComponent(spec.value.createdAt)}`;
        await peer.json("DELETE", path, { timeoutMs: limits.stopTimeoutMs + 2_000 });
      } catch (error) {
        context.log.warn({ application: name, node, failure: toFailure(error) }, "clone not removed now");
      }
    }),
  );
}
