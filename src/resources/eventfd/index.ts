/** eventfd: its counter and whether it counts as a semaphore. */
import { call, setStatusFlags } from "../../kernel/calls.ts";
import { infoField } from "../../kernel/procfs.ts";
import { type DescriptorKind, flagsOf, O } from "../kind.ts";
import { Remembered } from "../remembered.ts";

export interface EventfdState {
  flags: number;
  /** Hexadecimal. */
  count: string;
  semaphore: boolean;
}

const EFD_SEMAPHORE = 1;
/** Only the kernel itself counts one further (eventfd_signal): that has overflowed. */
const MOST_WRITTEN = 0xfffffffffffffffen;

const remembered = new Remembered<EventfdState>();

function read(info: string): EventfdState {
  return {
    flags: flagsOf(info),
    count: infoField(info, "eventfd-count"),
    semaphore: infoField(info, "eventfd-semaphore") === "1",
  };
}

/**
 * @kept the counter, whether it counts as a semaphore, flags; who shares it.
 * @unkept that the kernel itself has let a counter overflow (it is full then).
 */
export const eventfd: DescriptorKind<EventfdState> = {
  kind: "eventfd",
  version: 1,
  after: [],
  matches: (link) => link === "anon_inode:[eventfd]",
  dump: (descriptions, context) =>
    descriptions.map((description) => remembered.state(description, context, () => read(context.info(description)))),
  create(state) {
    const fd = call("eventfd2", 0, O.closeOnExec | O.nonBlock | (state.semaphore ? EFD_SEMAPHORE : 0));
    const counted = BigInt(`0x${state.count}`);
    const count = counted > MOST_WRITTEN ? MOST_WRITTEN : counted;
    if (count > 0n) {
      const word = Buffer.alloc(8);
      word.writeBigUInt64LE(count);
      call("write", fd, word, 8);
    }
    setStatusFlags(fd, state.flags);
    return fd;
  },
};
