/** The standby's side of memory that was here before: put aside, told of by digests, dropped once it is not needed. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { EarlierMemory } from "../clone/earlier-memory.ts";
import type { Link } from "../replication/link.ts";

export class MemoryKept {
  #held: EarlierMemory | undefined;

  get held(): EarlierMemory | undefined {
    return this.#held;
  }

  replace(memory: EarlierMemory | undefined): void {
    this.#held?.close();
    this.#held = memory;
  }

  /** What these processes have is what is held from here on. Given up when it is not wanted any more. */
  async putAside(pids: Iterable<number>, wanted: () => boolean): Promise<void> {
    const memory = await copied(pids, wanted);
    if (wanted()) this.replace(memory);
    else memory?.close();
  }

  /** Tells the primary, in pieces, so that what else there is to do has its time. */
  async tell(link: Link, key: Buffer): Promise<void> {
    const memory = this.#held;
    if (!memory) return;
    for (const digests of memory.digests(key)) {
      link.send({ type: "held", digests });
      await link.drained();
      await nextTurn();
      if (link.isClosed || this.#held !== memory) return;
    }
    link.send({ type: "held" });
  }
}

/** The memory of processes, as far as this node has room for it; undefined when that is nothing. */
export async function copied(pids: Iterable<number>, wanted: () => boolean): Promise<EarlierMemory | undefined> {
  const memory = new EarlierMemory();
  try {
    for (const _pause of memory.take(pids)) {
      await nextTurn();
      if (!wanted()) break;
    }
  } catch (error) {
    memory.close();
    throw error;
  }
  if (memory.pages > 0) return memory;
  memory.close();
  return undefined;
}
