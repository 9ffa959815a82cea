/** Starts an application under protection. What fails is undone: afterwards it is as if it had not been asked for. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ApplicationSpec, View } from "../cluster/spec.ts";
import { storeKeys } from "../cluster/store.ts";
import { OperatingError, toFailure } from "../kernel/failure.ts";
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
      await abortable(tryClone(context, name, node), signal);
    }),
  );
  if (wait) await waitInSync(context, instance, spec, options);
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
  const totals = new Map<string, number>();
  const told = new Set<string>();
  for (;;) {
    signal.throwIfAborted();
    await failIfEnded(context, instance, spec);
    await instance.until(() => true, { signal });
    const standbys = instance.status!.standbys;
    for (const { node, state, remainingBytes } of standbys) {
      if (state === "synchronising" && remainingBytes !== undefined) {
        const totalBytes = Math.max(totals.get(node) ?? 0, remainingBytes);
        totals.set(node, totalBytes);
        const message = `Synchronising "${node}"`;
        progress({ step: "synchronising", node, message, remainingBytes, totalBytes });
      }
      if (state === "in-sync" && !told.has(node)) {
        told.add(node);
        progress({ step: "in-sync", node, message: `"${node}" is in sync` });
      }
      if (state === "lost") {
        throw new OperatingError("standby-lost", `The standby "${node}" was lost during the first synchronisation`, {
          remedy: `See what it says: understudy events --node ${node}`,
          details: { node },
        });
      }
    }
    const missing = spec.standby.filter(
      (node) => !standbys.some((one) => one.node === node && one.state === "in-sync"),
    );
    if (missing.length === 0) return;
    await sleep(PROGRESS_PERIOD_MS);
  }
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
