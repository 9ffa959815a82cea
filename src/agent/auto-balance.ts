/**
 * Makes the moves of `balance: auto`. One agent does it for all, so that two do not fill the same node: who has written the store's
 * key `balancer` last, among those that run such an application; another takes it when it has not been renewed for some looks. With
 * it goes what has been moved lately, so that it rests for the next one, too.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { lookForMoves, restsOf, startAutoBalance, startWith } from "../cluster/auto-balance.ts";
import { storeKeys } from "../cluster/store.ts";
import { toFailure } from "../kernel/failure.ts";
import { makeMoves } from "./balance.ts";
import type { AgentContext } from "./context.ts";
import { takePicture } from "./picture.ts";
import type { ApplicationRecord } from "./records.ts";

const PERIOD_MS = 10_000;
/** The balancer has not renewed its word for so many looks of this agent. */
const STALE_LOOKS = 3;

/** `balancer` in the store. */
interface Word {
  node: string;
  at: string;
  /** Milliseconds for which applications that were moved stay where they are. */
  rests?: Record<string, number>;
}

export class AutoBalancer {
  readonly #context: AgentContext;
  readonly #records: () => Iterable<ApplicationRecord>;
  #state = startAutoBalance;
  /** The word of another, and at how many looks it was the same. */
  #other = { revision: 0, looks: 0 };

  /** @param records of all applications, as far as they are known here */
  constructor(context: AgentContext, records: () => Iterable<ApplicationRecord>) {
    this.#context = context;
    this.#records = records;
  }

  async run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(PERIOD_MS, undefined, { signal, ref: false }).catch(() => {});
      if (signal.aborted) return;
      try {
        await this.look(signal);
      } catch (error) {
        this.#context.log.warn({ failure: toFailure(error) }, "cannot look for moves that share the load");
      }
    }
  }

  /** What is done every few seconds. */
  async look(signal: AbortSignal): Promise<void> {
    const context = this.#context;
    const auto = [...this.#records()].filter(({ spec, view }) => spec?.value.balance === "auto" && !view?.value.ended);
    if (!auto.some(({ view }) => view?.value.primary === context.node) || !(await this.#isBalancer())) {
      this.#state = startAutoBalance;
      return;
    }
    const names = new Set(auto.map(({ name }) => name));
    const picture = await takePicture(context);
    const { state, moves } = lookForMoves(this.#state, picture, (name) => names.has(name), performance.now());
    this.#state = state;
    const share = ([from, to]: [number, number]) => `${Math.round(100 * from)} % and ${Math.round(100 * to)} %`;
    for (const { application, from, to, before, after } of moves)
      context.events.add({
        kind: "balancing",
        application,
        message: `"${application}" moves from "${from}" to "${to}", ${share(before)} full: ${share(after)} then`,
        details: { from, to },
      });
    const progress = ({ step, application, message }: { step: string; application: string; message: string }) => {
      if (step === "failed") context.events.add({ kind: "not-balanced", application, message });
    };
    if (moves.length === 0) return;
    // This node may run none of them any more after that.
    await this.#isBalancer();
    await makeMoves(context, moves, { progress, signal });
  }

  async #isBalancer(): Promise<boolean> {
    const { store, node } = this.#context;
    const found = await store.get<Word>(storeKeys.balancer);
    if (found !== undefined && found.value.node !== node) {
      const looks = found.revision === this.#other.revision ? this.#other.looks + 1 : 0;
      this.#other = { revision: found.revision, looks };
      if (looks < STALE_LOOKS) return false;
    }
    const now = performance.now();
    if (this.#state === startAutoBalance) this.#state = startWith(found?.value.rests ?? {}, now);
    const word: Word = { node, at: new Date().toISOString(), rests: restsOf(this.#state, now) };
    return (await store.compareAndSwap(storeKeys.balancer, found?.revision ?? 0, word)).ok;
  }
}
