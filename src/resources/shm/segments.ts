/** The segments of a clone that does not live yet: attached to this process, which keeps them and fills them. */

import { call, closeDescriptor, openPath, tryCall } from "../../kernel/calls.ts";
import { checked } from "../../kernel/errors.ts";
import { O_RDWR } from "../../kernel/files.ts";
import { hugeSizeFlags } from "../../kernel/huge-pages.ts";
import { inIpcNamespace } from "../../kernel/namespace.ts";
import { isLackOfHugePages, lackingHugePages } from "../memory/lacking.ts";
import { createOwned, IPC, IPC_CREATE, IPC_EXCLUSIVE } from "../sysv.ts";
import { type SegmentOperation, type SegmentState, SHM_DEST } from "./state.ts";

const SHM_HUGETLB = 0o4000;

function makeSegment({ key, bytes, huge }: SegmentState, flags: number): number {
  const id = tryCall("shmget", key, bytes, flags);
  if (huge !== undefined && isLackOfHugePages(id)) throw lackingHugePages(huge, bytes);
  return checked(id, "shmget");
}

interface Held {
  state: SegmentState;
  address: number;
  removed: boolean;
}

export class Segments {
  readonly #namespaceFd: number;
  readonly #held = new Map<number, Held>();
  #memoryFd = -1;

  constructor(namespaceFd: number) {
    this.#namespaceFd = namespaceFd;
  }

  apply(operation: SegmentOperation): void {
    switch (operation.op) {
      case "segment":
        this.#take(operation.segment);
        return;
      case "segment-bytes":
        this.#write(operation.id, operation.offset, operation.bytes);
        return;
      case "segment-end":
        this.#end(operation.id);
        return;
    }
  }

  /** Bytes of a segment, or undefined when it was never told of. */
  bytes(id: number): number | undefined {
    return this.#held.get(id)?.state.bytes;
  }

  states(): SegmentState[] {
    return [...this.#held.values()].map(({ state }) => state);
  }

  #take(state: SegmentState): void {
    inIpcNamespace(this.#namespaceFd, () => {
      let held = this.#held.get(state.id);
      if (!held) {
        const huge = state.huge === undefined ? 0 : SHM_HUGETLB + hugeSizeFlags(state.huge);
        const flags = (IPC_CREATE | IPC_EXCLUSIVE | (state.mode & 0o777)) + huge;
        createOwned("shm", state, () => makeSegment(state, flags));
        held = { state, address: call("shmat", state.id, null, 0), removed: false };
        this.#held.set(state.id, held);
      }
      held.state = state;
      // Its key must be free for another one.
      if ((state.mode & SHM_DEST) === 0 || held.removed) return;
      call("shmctl", state.id, IPC.remove, null);
      held.removed = true;
    });
  }

  #write(id: number, offset: number, bytes: Buffer): void {
    const held = this.#held.get(id);
    if (!held) throw new Error(`The checkpoint has bytes of segment ${id}, which it never made`);
    if (this.#memoryFd < 0) this.#memoryFd = openPath("/proc/self/mem", O_RDWR);
    call("pwrite64", this.#memoryFd, bytes, bytes.length, held.address + offset);
  }

  #end(id: number): void {
    const held = this.#held.get(id);
    if (!held) return;
    this.#held.delete(id);
    inIpcNamespace(this.#namespaceFd, () => {
      if (!held.removed) call("shmctl", id, IPC.remove, null);
      call("shmdt", held.address);
    });
  }

  /** From here on only the application's processes hold them. Idempotent. */
  release(): void {
    closeDescriptor(this.#memoryFd);
    this.#memoryFd = -1;
    for (const { address } of this.#held.values()) call("shmdt", address);
    this.#held.clear();
  }
}
