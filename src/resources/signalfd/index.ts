/** signalfd: the set of signals it takes. The signals that wait are the processes' and threads' own. */
import { call, setStatusFlags } from "../../kernel/calls.ts";
import { infoField } from "../../kernel/procfs.ts";
import { type DescriptorKind, flagsOf, O } from "../kind.ts";

export interface SignalfdState {
  flags: number;
  /** Hexadecimal, bit 0 is signal 1. */
  mask: string;
}

const MASK_BYTES = 8;

/**
 * @kept the set of signals, flags; the signals that wait are those of processes and threads.
 */
export const signalfd: DescriptorKind<SignalfdState> = {
  kind: "signalfd",
  version: 1,
  after: [],
  matches: (link) => link === "anon_inode:[signalfd]",
  dump: (descriptions, context) =>
    descriptions.map((description) => {
      const info = context.info(description);
      return { flags: flagsOf(info), mask: infoField(info, "sigmask") };
    }),
  create(state) {
    const mask = Buffer.alloc(MASK_BYTES);
    mask.writeBigUInt64LE(BigInt(`0x${state.mask}`));
    const fd = call("signalfd4", -1, mask, MASK_BYTES, O.closeOnExec);
    setStatusFlags(fd, state.flags & ~O.accessMode);
    return fd;
  },
};
