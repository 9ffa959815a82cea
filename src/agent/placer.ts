/**
 * Finds nodes for clones that are wanted and have none: because their number alone is given, because a node is emptied, or because
 * one has been away for long. Each primary's agent looks after its own applications.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { chooseStandby } from "../cluster/placement.ts";
import { missingStandbys, noPlacement, type Placement, standbyCount, wantedStandbys } from "../cluster/standbys.ts";
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
    if (context.locks.held(name) || (this.#notBefore.get(name) ?? 0) > performance.now()) return;
    const is = placement?.value ?? noPlacement;
    const shall: Placement = { ...is, without: await this.#awayOf(record, is) };
    const missing = missingStandbys(spec.value, view.value, shall, context.drained);
    if (missing > 0) {
      const extra = await this.#chosen(record, shall, missing);
      if (extra === undefined) {
        // Who is away may come back: it is still expected.
        this.#notBefore.set(name, performance.now() + AGAIN_MS);
        return;
      }
      shall.extra = extra;
    }
    if (JSON.stringify(shall) === JSON.stringify(is)) return;
    await context.store.compareAndSwap(storeKeys.placement(name), placement?.revision ?? 0, shall);
    context.wake();
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

  /** Nodes that shall hold a clone and have been away for longer than the application's owner waits. */
  async #awayOf({ spec, view }: ApplicationRecord, is: Placement): Promise<string[]> {
    const context = this.#context;
    const afterMs = spec!.value.placement.replaceAfter * 1000;
    if (standbyCount(spec!.value) === 0) return [];
    const nodes = wantedStandbys(spec!.value, view!.value, is, context.drained);
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
