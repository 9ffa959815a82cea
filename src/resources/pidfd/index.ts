/** pidfd: a handle of a process of the application, living, or ended and not collected yet, or gone. */
import { setStatusFlags } from "../../kernel/calls.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { infoField } from "../../kernel/procfs.ts";
import { type CreateContext, type DescriptorKind, flagsOf, O } from "../kind.ts";

export interface PidfdState {
  flags: number;
  /** As the application sees it; −1: it has ended and been collected. */
  pid: number;
}

/** PIDFD_THREAD is O_EXCL, and shows in the flags. */
const PIDFD_THREAD = O.exclusive;

/**
 * @kept of a process that lives, has ended and was not collected, or is gone; flags.
 */
export const pidfd: DescriptorKind<PidfdState> = {
  kind: "pidfd",
  version: 1,
  after: [],
  // "pidfd:[INODE]" since kernel 6.9.
  matches: (link) => link === "anon_inode:[pidfd]" || link.startsWith("pidfd:["),
  dump: (descriptions, context) =>
    descriptions.map((description) => {
      const info = context.info(description);
      const pids = infoField(info, "NSpid").split(/\s+/);
      const pid = Number(pids.at(-1) || infoField(info, "Pid"));
      if (pid === 0 || (pids.length < 2 && pid > 0))
        throw new OperatingError(
          "unprotectable-pidfd",
          `The application has a pidfd (descriptor ${description.fd}) of a process outside it`,
          { remedy: "Start that process under the same protection.", details: { fd: description.fd } },
        );
      return { flags: flagsOf(info), pid };
    }),
  create(state, context) {
    const fd = state.pid > 0 ? openInside(state, context) : context.inside().handleOfEnded();
    setStatusFlags(fd, state.flags & O.nonBlock);
    return fd;
  },
};

function openInside({ pid, flags }: PidfdState, context: CreateContext): number {
  const inside = context.inside();
  return inside.fetch(inside.remote.call("pidfd_open", pid, flags & PIDFD_THREAD));
}
