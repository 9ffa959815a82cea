/**
 * Finds nodes for clones that are wanted and have none: because their number alone is given, because a node is emptied, or because
 * one has been away for long, or its owner does not want it where it is any more. Each primary's agent looks after its own applications.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { chooseStandby, isAllowed } from "../cluster/placement.ts";
import { missingStandbys, noPlacement, type Placement, standbyCount } from "../cluster/standbys.ts";
import { storeKeys } from "../cluster/store.ts";
import { toFailure } from "../kernel/failure.ts";
import type { AgentContext } from "./context.ts";
import { takePicture } from "./picture.ts";
import type { ApplicationRecord } from "./records.ts";

const PERIOD_MS = 1_000;
/** When there is no node to choose: the next look. */
const AGAIN_MS = 10_000;

export class Placer {
  readonly #context: AgentContext;
  readonly #records: () => Iterable<ApplicationRecord>;
  /** Since when nodes do not answer. */
  readonly #away = new Map<string, number>();
  readonly #notBefore = new Map<string, number>();
  /** By application: clones for which there was no node. */
  readonly #lacking = new Map<string, number>();
  /** By application: chosen nodes that its specification, as of that revision, does not allow. */
  readonly #refused = new Map<string, { revision: number; nodes: string[] }>();

  /** @param records of all applications, as far as they are known here */
  constructor(context: AgentContext, records: () => Iterable<ApplicationRecord>) {
    this.#context = context;
    this.#records = records;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      for (const record of this.#records()) {
        try {
          await this.care(record);
        } catch (error) {
          this.#context.log.warn({ application: record.name, failure: toFailure(error) }, "cannot place clones now");
        }
      }
      await sleep(PERIOD_MS, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  /** One application's turn. */
  async care(record: ApplicationRecord): Promise<void> {
    const { name, spec, view, placement } = record;
    const context = this.#context;
    if (!spec || !view || view.value.ended || view.value.primary !== context.node) return;
    if (context.locks.held(name)) return;
    const is = placement?.value ?? noPlacement;
    const without = new Set([...(await this.#refusedOf(record, is)), ...(await this.#awayOf(record, is))]);
    const shall: Placement = { ...is, without: [...without] };
    const missing = missingStandbys(spec.value, view.value, shall, context.drained);
    if (missing > 0 && (this.#notBefore.get(name) ?? 0) < performance.now()) {
      const extra = await this.#chosen(record, shall, missing);
      // Who is away may come back: it is still expected.
      if (extra === undefined) this.#notBefore.set(name, performance.now() + AGAIN_MS);
      else shall.extra = extra;
      this.#tellLacking(name, missingStandbys(spec.value, view.value, shall, context.drained));
    } else if (missing === 0) this.#lacking.delete(name);
    if (JSON.stringify(shall) !== JSON.stringify(is)) {
      const swap = await context.store.compareAndSwap(storeKeys.placement(name), placement?.revision ?? 0, shall);
      if (!swap.ok) return;
      context.wake();
    }
    context.placed.set(name, spec.revision);
  }

  /** Once each time it has changed. */
  #tellLacking(name: string, count: number): void {
    if (this.#lacking.get(name) === count) return;
    this.#lacking.set(name, count);
    if (count === 0) return;
    const clones = count === 1 ? "one more clone" : `${count} more clones`;
    const message = `No node is there that may hold ${clones} of "${name}"`;
    this.#context.events.add({ kind: "no-node-for-standby", application: name, message, details: { count } });
  }

  /** The chosen nodes from now on, or undefined where there is none to choose. */
  async #chosen({ name, view }: ApplicationRecord, shall: Placement, missing: number): Promise<string[] | undefined> {
    const context = this.#context;
    const picture = await takePicture(context);
    const known = picture.applications.get(name);
    if (known === undefined) return undefined;
    // Others may stand in again; those that were chosen before and cannot now are passed over.
    const without = new Set([...shall.without, ...context.drained]);
    const extra = shall.extra.filter((node) => known.standbys.includes(node) && !without.has(node));
    const kept = extra.length;
    for (let left = missing; left > 0; left--) {
      const node = chooseStandby(picture, name, without);
      if (node === undefined) break;
      extra.push(node);
      picture.place(name, view!.value.primary, [...picture.applications.get(name)!.standbys, node]);
      context.events.add({
        kind: "standby-chosen",
        application: name,
        message: `"${node}" shall hold a clone of "${name}"`,
        details: { node },
      });
    }
    return extra.length > kept ? extra : undefined;
  }

  /** Chosen nodes that the owner's wishes, which have changed since, or a node's labels speak against. */
  async #refusedOf({ name, spec }: ApplicationRecord, { extra }: Placement): Promise<string[]> {
    const { revision } = spec!;
    if (this.#refused.get(name)?.revision !== revision) {
      this.#notBefore.delete(name);
      const picture = extra.length > 0 ? await takePicture(this.#context) : undefined;
      const application = picture?.applications.get(name);
      const nodes = extra.filter((node) => application !== undefined && !isAllowed(picture!, application, node));
      this.#refused.set(name, { revision, nodes });
    }
    return this.#refused.get(name)!.nodes.filter((node) => extra.includes(node));
  }

  /** Nodes that shall hold a clone, or stand in, and have been away for longer than the application's owner waits. */
  async #awayOf({ spec, view }: ApplicationRecord, is: Placement): Promise<string[]> {
    const context = this.#context;
    const afterMs = spec!.value.placement.replaceAfter * 1000;
    if (standbyCount(spec!.value) === 0) return [];
    const { standby, home } = spec!.value;
    const may = (node: string) => node !== view!.value.primary && !context.drained.has(node);
    const nodes = [...new Set([...standby, home, ...is.extra])].filter(may);
    // Who is in sync answers the stream; its agent need not be asked.
    const asked = nodes.filter((node) => !view!.value.inSync.includes(node));
    for (const node of nodes) if (!asked.includes(node)) this.#away.delete(node);
    await Promise.all(
      asked.map(async (node) => {
        const there = await context.peers.health(node).then(
          () => true,
          () => false,
        );
        if (there) this.#away.delete(node);
        else if (!this.#away.has(node)) this.#away.set(node, performance.now());
      }),
    );
    const now = performance.now();
    return nodes.filter((node) => now - (this.#away.get(node) ?? now) > afterMs);
  }
}
