/** Looks at this node and the store again and again, and does what `desired` says. */
import { setTimeout as sleep } from "node:timers/promises";
import { toFailure } from "../kernel/failure.ts";
import { AutoBalancer } from "./auto-balance.ts";
import { tryClone } from "./clones.ts";
import type { AgentContext } from "./context.ts";
import { type Action, desired, type Seen, type SeenInstance } from "./desired.ts";
import { followDrained } from "./drained-nodes.ts";
import { initAlive, keptNames, localNames, onlyFilesLeft } from "./leftovers.ts";
import { limits } from "./limits.ts";
import type { LocalInstance } from "./local-instance.ts";
import { Placer } from "./placer.ts";
import type { ApplicationRecord } from "./records.ts";

/** Events come in bursts: look once for all of them. */
const GATHER_MS = 20;

export class Reconciler {
  readonly #context: AgentContext;
  readonly #abort = new AbortController();
  /** Since when an instance should be gone that may still answer its caller. */
  readonly #handOver = new Map<string, number>();
  #wakeUp: (() => void) | undefined;
  #woken = false;
  #storeFailed = false;

  constructor(context: AgentContext) {
    this.#context = context;
  }

  start(): void {
    this.#context.known.follow(this.#context.store, () => this.wake(), this.#abort.signal);
    followDrained(this.#context.drained, this.#context.store, () => this.wake(), this.#abort.signal);
    void this.#loop();
    void new Placer(this.#context, () => this.#context.known.all()).run(this.#abort.signal);
    void new AutoBalancer(this.#context, () => this.#context.known.all()).run(this.#abort.signal);
  }

  stop(): void {
    this.#abort.abort();
    this.wake();
  }

  wake(): void {
    this.#woken = true;
    this.#wakeUp?.();
  }

  async #loop(): Promise<void> {
    while (!this.#abort.signal.aborted) {
      this.#woken = false;
      try {
        await this.#once();
        this.#storeFailed = false;
      } catch (error) {
        if (!this.#storeFailed)
          this.#context.log.error({ failure: toFailure(error) }, "cannot look after applications");
        this.#storeFailed = true;
      }
      await this.#pause();
    }
  }

  async #pause(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    if (!this.#woken) {
      await new Promise<void>((resolve) => {
        this.#wakeUp = resolve;
        timer = setTimeout(resolve, limits.reconcilePeriodMs);
      });
    }
    clearTimeout(timer);
    await sleep(GATHER_MS);
  }

  async #once(): Promise<void> {
    const context = this.#context;
    // First the node, then the store: what is here had its record before (see desired.ts).
    const local = await this.#look();
    const here = (application: string) =>
      local.get(application) ?? { initAlive: false, leftovers: false, onlyFiles: false, kept: false, busy: false };
    const see = ({ name: application, spec, view, placement }: ApplicationRecord): Seen => ({
      ...{ application, ...here(application) },
      ...(spec && { spec: spec.value }),
      ...(view && { view: view.value }),
      ...(placement && { placement: placement.value }),
    });
    // What was told may be old: only where something seems to be amiss the store is asked.
    const seen = [...new Set([...local.keys(), ...this.#context.known.names()])]
      .map((name) => see(this.#context.known.get(name) ?? { name }))
      .filter((one) => desired(context.node, [one], context.drained).length > 0);
    for (const { application } of seen)
      for (const action of desired(
        context.node,
        [see(await context.records.application(application))],
        context.drained,
      ))
        this.#do(action);
  }

  async #look(): Promise<
    Map<string, Pick<Seen, "instance" | "initAlive" | "leftovers" | "onlyFiles" | "kept" | "busy">>
  > {
    const { instances, layout, config, locks } = this.#context;
    await Promise.all(instances.list().map((instance) => instance.refresh()));
    const names = localNames(layout, config.runDirectory);
    const kept = keptNames(layout);
    return new Map(
      [...new Set([...names, ...kept])].map((name) => {
        const instance = instances.get(name);
        const alive = initAlive(config.runDirectory, name);
        const onlyFiles = onlyFilesLeft(layout, config.runDirectory, name);
        const left = { leftovers: names.has(name), onlyFiles, kept: kept.has(name) };
        const seen = { initAlive: alive, ...left, busy: locks.held(name) };
        return [name, { ...seen, ...(instance && { instance: seenInstance(instance) }) }];
      }),
    );
  }

  /** Begins the action unless the same is under way or its time has not come; never waits for it. */
  #do(action: Action): void {
    const context = this.#context;
    const { application } = action;
    const nowMs = performance.now();
    if (action.kind === "clone") {
      // tryClone keeps the pace itself and tells of failures. An instance that is slow to answer may not have told of it yet.
      const key = `${application}/${action.node}`;
      const saidMs = context.instances.get(application)?.statusAskedMs ?? 0;
      if (context.backoff.ready(key, nowMs) && !context.backoff.isOld(key, saidMs)) {
        tryClone(context, application, action.node).then(context.wake, () => {});
      }
      return;
    }
    const key = `${application}#${action.kind}`;
    if (!context.backoff.ready(key, nowMs) || (action.kind === "remove" && this.#mayStillHandOver(action))) return;
    context.backoff.begin(key);
    const work = action.kind === "attach" ? this.#attach(application) : this.#remove(action);
    work.then(
      () => context.backoff.succeeded(key, performance.now()),
      (error) => {
        context.backoff.failed(key, performance.now());
        context.log.error({ application, action: action.kind, failure: toFailure(error) }, "action failed");
      },
    );
  }

  #mayStillHandOver({ application, pid, handsOver }: Extract<Action, { kind: "remove" }>): boolean {
    if (!handsOver || pid === undefined) return false;
    const key = `${application}/${pid}`;
    const since = this.#handOver.get(key);
    if (since === undefined) {
      this.#handOver.set(key, performance.now());
      setTimeout(() => this.wake(), limits.handOverGraceMs);
      setTimeout(() => this.#handOver.delete(key), 10 * limits.handOverGraceMs);
      return true;
    }
    return performance.now() - since < limits.handOverGraceMs;
  }

  #attach(application: string): Promise<void> {
    const context = this.#context;
    return context.locks.run(application, async () => {
      const { spec, view } = await context.records.application(application);
      if (!spec || !view || view.value.ended) return;
      // Its own, or what goes on here if the new primary does not come to life.
      if (view.value.primary !== context.node && !view.value.inSync.includes(context.node)) return;
      if (context.instances.get(application)) return;
      context.events.add({
        kind: "instance-replaced",
        application,
        message: `The instance of "${application}" died; another takes the running application up`,
      });
      const instance = context.instances.start(spec.value, "attach");
      await instance.until(({ state }) => state !== "starting", { timeoutMs: limits.applicationStartTimeoutMs });
    });
  }

  #remove({ application, pid, reason, graceful, files }: Extract<Action, { kind: "remove" }>): Promise<void> {
    const context = this.#context;
    return context.locks.run(application, async () => {
      // Something newer than what was seen is not meant.
      const now = context.instances.get(application)?.pid;
      if (now !== undefined && now !== pid) return;
      context.events.add({ kind: "removed-here", application, message: `"${application}" is removed here: ${reason}` });
      await context.instances.remove(application, graceful, files);
      context.problems.delete(application);
      context.backoff.forget(`${application}/`);
    });
  }
}

function seenInstance(instance: LocalInstance): SeenInstance {
  const { pid, createdAt, status } = instance;
  if (!status) return { pid, createdAt };
  const { role, state, term, standbys } = status;
  return { pid, createdAt, said: { role, state, term, standbys } };
}
