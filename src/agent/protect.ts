/** Starts an application under protection. What fails is undone: afterwards it is as if it had not been asked for. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ApplicationSpec, View } from "../cluster/spec.ts";
import { storeKeys } from "../cluster/store.ts";
import { fromFailure, OperatingError, toFailure } from "../kernel/failure.ts";
import type { ApplicationReport, ProtectProgress } from "./api-types.ts";
import { removeClones, tryClone } from "./clones.ts";
import type { AgentContext } from "./context.ts";
import { suffixes } from "./layout.ts";
import { limits } from "./limits.ts";
import type { LocalInstance } from "./local-instance.ts";
import { checkProtectable, nameInUse, parseProtectRequest } from "./protect-request.ts";
import { report } from "./report.ts";

const PROGRESS_PERIOD_MS = 100;

export interface ProtectOptions {
  progress: (progress: ProtectProgress) => void;
  /** Aborts when the asker has gone: then everything is undone. */
  signal: AbortSignal;
}

/** @throws OperatingError why it is not protected now; nothing is left of it then */
export async function protect(
  context: AgentContext,
  body: unknown,
  options: ProtectOptions,
): Promise<ApplicationReport> {
  const { spec, wait } = parseProtectRequest(context.node, body);
  await checkProtectable(context, spec);
  return context.locks.run(spec.name, async () => {
    const abort = new AbortController();
    const signal = AbortSignal.any([options.signal, abort.signal]);
    signal.throwIfAborted();
    await claimName(context, spec);
    context.protecting.set(spec.name, abort);
    try {
      await begin(context, spec, wait, { ...options, signal });
      rmSync(context.layout.protectMarker(spec.name), { force: true });
    } catch (error) {
      context.log.warn({ application: spec.name, failure: toFailure(error) }, "protect failed, undoing");
      await undo(context, spec);
      throw error;
    } finally {
      context.protecting.delete(spec.name);
    }
    context.wake();
    return report(context, spec.name);
  });
}

/** Exactly one of several who want the name at the same time gets it: the store decides. */
async function claimName(context: AgentContext, spec: ApplicationSpec): Promise<void> {
  const { name } = spec;
  const before = await context.records.application(name);
  // The record of an application that has ended is only its memory.
  if (before.spec && before.view?.value.ended) {
    await removeClones(context, name);
    await context.records.forget(name, before.spec.value.createdAt);
  }
  const marker = context.layout.protectMarker(name);
  mkdirSync(dirname(marker), { recursive: true });
  writeFileSync(marker, JSON.stringify({ name, createdAt: spec.createdAt }));
  const swap = await context.store.compareAndSwap(storeKeys.specification(name), 0, spec);
  if (!swap.ok) {
    rmSync(marker, { force: true });
    throw nameInUse(name);
  }
  // Only now is what may be left here under this name nobody's any more.
  await context.instances.remove(name, false);
}

async function begin(
  context: AgentContext,
  spec: ApplicationSpec,
  wait: boolean,
  options: ProtectOptions,
): Promise<void> {
  const { name } = spec;
  const { progress, signal } = options;
  const view: View = { term: 1, primary: context.node, inSync: [] };
  const swap = await context.store.compareAndSwap(storeKeys.view(name), 0, view);
  if (!swap.ok) throw nameInUse(name);
  progress({ step: "starting", message: `Starting ${spec.command.join(" ")}` });
  const instance = context.instances.start(spec, "start");
  const running = (state: string) => state !== "starting";
  const started = { timeoutMs: limits.applicationStartTimeoutMs, pollMs: 20, signal };
  await instance.until((status) => running(status.state), started);
  await settle(context, instance, spec, signal);
  progress({ step: "running", message: `"${name}" runs on "${context.node}" under ${spec.address}` });
  await Promise.all(
    spec.standby.map(async (node) => {
      progress({ step: "clone", node, message: `Making a clone on "${node}"` });
      // Given up early, the attempt ends on the other node, which refuses what the store does not know any more.
      await abortable(tryAgain(context, name, node, progress, signal), signal);
    }),
  );
  if (wait) await waitInSync(context, instance, spec, options);
}

/** The first attempts may meet a node that is just coming up; later ones would only hide what is wrong. */
async function tryAgain(
  context: AgentContext,
  name: string,
  node: string,
  progress: ProtectOptions["progress"],
  signal: AbortSignal,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await tryClone(context, name, node);
    } catch (error) {
      if (attempt === limits.synchronisationAttempts || signal.aborted) throw error;
      progress({
        step: "clone",
        node,
        message: `Once more: making a clone on "${node}" (${toFailure(error).message})`,
      });
      await sleep(limits.retryFirstMs);
    }
  }
}

function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    work.then(resolve, reject);
  });
}

/** A program that ends at once was not started: say so now and not when somebody misses it. */
async function settle(
  context: AgentContext,
  instance: LocalInstance,
  spec: ApplicationSpec,
  signal: AbortSignal,
): Promise<void> {
  const until = performance.now() + limits.settleMs;
  while (performance.now() < until) {
    signal.throwIfAborted();
    await failIfEnded(context, instance, spec);
    await sleep(20);
  }
}

async function failIfEnded(context: AgentContext, instance: LocalInstance, spec: ApplicationSpec): Promise<void> {
  const { view } = await context.records.application(spec.name);
  if (instance.alive && !view?.value.ended) return;
  const failure = instance.failure();
  if (failure.code !== "instance-gone" || !view?.value.ended) throw failure;
  const tail = instance.logTail();
  throw new OperatingError("program-ended", `"${spec.command[0]}" ended at once: ${view.value.ended.reason}`, {
    remedy: `Start it by hand to see why${tail === "" ? "." : `. It said last:\n${tail}`}`,
    details: { application: spec.name },
  });
}

async function waitInSync(
  context: AgentContext,
  instance: LocalInstance,
  spec: ApplicationSpec,
  { progress, signal }: ProtectOptions,
): Promise<void> {
  const told = new Set<string>();
  const attempts = new Map(spec.standby.map((node) => [node, 1]));
  let seen = "";
  let changedMs = performance.now();
  for (;;) {
    signal.throwIfAborted();
    await failIfEnded(context, instance, spec);
    await instance.until(() => true, { signal });
    const { standbys, unprotectable } = instance.status!;
    if (unprotectable) throw fromFailure(unprotectable);
    for (const { node, state, synchronisation } of standbys) {
      if (synchronisation !== undefined) {
        const { step, remainingBytes, totalBytes, bytesPerSecond, secondsLeft } = synchronisation;
        const message = `Synchronising "${node}" (${step})`;
        const left = secondsLeft === undefined ? {} : { secondsLeft };
        progress({ step: "synchronising", node, message, remainingBytes, totalBytes, bytesPerSecond, ...left });
      }
      if (state === "in-sync" && !told.has(node)) {
        told.add(node);
        progress({ step: "in-sync", node, message: `"${node}" is in sync` });
      }
    }
    const inState = (node: string) => standbys.find((one) => one.node === node)?.state ?? "lost";
    if (spec.standby.every((node) => inState(node) === "in-sync")) return;
    // Nobody else looks after it as long as this request holds the application's lock.
    for (const node of spec.standby.filter((one) => inState(one) === "lost")) {
      const attempt = attempts.get(node)! + 1;
      if (attempt > limits.synchronisationAttempts) throw standbyLost(context, spec.name, node);
      attempts.set(node, attempt);
      told.delete(node);
      progress({ step: "clone", node, message: `The clone on "${node}" was lost, making another` });
      await sleep(limits.retryFirstMs);
      await abortable(tryAgain(context, spec.name, node, progress, signal), signal);
    }
    const now = JSON.stringify(standbys.map(({ node, state, remainingBytes }) => [node, state, remainingBytes]));
    if (now !== seen) changedMs = performance.now();
    seen = now;
    if (performance.now() - changedMs > limits.synchronisationStallMs) throw stalled(context, spec, inState);
    await sleep(PROGRESS_PERIOD_MS);
  }
}

/** What the instance said last about why it got nowhere. */
function lastTrouble(context: AgentContext, name: string): string {
  const kinds = ["synchronisation-failed", "standby-lost", "checkpoint-failed", "barrier-timeout"];
  const last = context.events.list(name).findLast(({ kind }) => kinds.includes(kind));
  return last === undefined ? "" : ` ${last.message}.`;
}

function standbyLost(context: AgentContext, name: string, node: string): OperatingError {
  const why = lastTrouble(context, name);
  return new OperatingError("standby-lost", `The standby "${node}" was lost in every first synchronisation.${why}`, {
    remedy: `See what it says: understudy events --node ${node}`,
    details: { node },
  });
}

function stalled(context: AgentContext, spec: ApplicationSpec, inState: (node: string) => string): OperatingError {
  const nodes = spec.standby
    .filter((node) => inState(node) !== "in-sync")
    .map((node) => `"${node}" (${inState(node)})`);
  const seconds = limits.synchronisationStallMs / 1000;
  return new OperatingError(
    "synchronisation-stalled",
    `The first synchronisation of ${nodes.join(", ")} has made no progress for ${seconds} s.${lastTrouble(context, spec.name)}`,
    { remedy: `See what happened: understudy events --application ${spec.name}` },
  );
}

/** Takes everything back, in an order in which no other node can take the application over meanwhile. */
async function undo(context: AgentContext, spec: Pick<ApplicationSpec, "name" | "createdAt">): Promise<void> {
  const { name } = spec;
  const step = async (what: string, work: () => Promise<unknown>) => {
    try {
      await work();
    } catch (error) {
      context.log.error({ application: name, failure: toFailure(error) }, `undo: ${what} failed`);
    }
  };
  await step("end view", () => context.records.end(name, "could not be protected", 1));
  await step("remove here", () => context.instances.remove(name, true));
  await step("remove clones", () => removeClones(context, name));
  await step("forget", () => context.records.forget(name, spec.createdAt));
  context.problems.delete(name);
  context.backoff.forget(`${name}/`);
  rmSync(context.layout.protectMarker(name), { force: true });
}

/** At the agent's start: what a predecessor began and did not finish, and nobody has taken over since, is undone. */
export async function undoHalfDone(context: AgentContext): Promise<void> {
  for (const marker of markers(context.layout.applicationsDirectory)) {
    const { name, createdAt } = marker;
    await context.locks.run(name, async () => {
      const { spec, view } = await context.records.application(name);
      const ours = spec?.value.createdAt === createdAt && (view?.value.primary ?? context.node) === context.node;
      if (!ours || (view?.value.term ?? 1) !== 1) {
        rmSync(context.layout.protectMarker(name), { force: true });
        return;
      }
      context.events.add({
        kind: "protect-undone",
        application: name,
        message: `The agent ended while "${name}" was being protected; it is undone`,
      });
      await undo(context, marker);
    });
  }
}

function markers(directory: string): { name: string; createdAt: string }[] {
  try {
    return readdirSync(directory)
      .filter((file) => file.endsWith(suffixes.protectMarker))
      .map((file) => JSON.parse(readFileSync(`${directory}/${file}`, "utf8")) as { name: string; createdAt: string });
  } catch {
    return [];
  }
}
