/** The terminals that a clone's sessions have before it lives: see resources/pty/controlling.ts. */
import { closeDescriptor } from "../kernel/calls.ts";
import type { Remote } from "../kernel/remote.ts";
import { controllingTerminal, makeMasters, openSlave, TIOCNOTTY, TIOCSCTTY } from "../resources/pty/controlling.ts";
import { INSTANCE_HANDLE } from "../stage/stage.ts";

interface Process {
  virtualPid: number;
  pid: number;
  remote: Remote;
}

interface Made {
  /** −1: given away. */
  master: number;
  /** The last one that is closed would take the terminal from its session. */
  slave: number;
  leader: number;
}

export class Terminals {
  readonly #rootFd: number;
  readonly #made = new Map<number, Made>();

  constructor(rootFd: number) {
    this.#rootFd = rootFd;
  }

  /** From now on children of the session's leader have this terminal. */
  give(leader: Process, index: number): void {
    const known = this.#made.get(index);
    if (known?.leader === leader.virtualPid) return;
    if (known) this.#close(index, known);
    const master = makeMasters(this.#rootFd, [index]).get(index);
    if (master === undefined) return;
    const slave = openSlave(this.#rootFd, master, index);
    this.#made.set(index, { master, slave, leader: leader.virtualPid });
    this.#ioctl(leader, slave, TIOCSCTTY);
  }

  #ioctl({ remote }: Process, slave: number, request: number): void {
    const fd = remote.call("pidfd_getfd", INSTANCE_HANDLE, slave, 0);
    remote.tryCall("ioctl", fd, request, 0);
    remote.call("close", fd);
  }

  /** The master of a terminal that is there already: the caller's from now on. */
  take(index: number): number | undefined {
    const made = this.#made.get(index);
    if (made === undefined || made.master < 0) return undefined;
    const { master } = made;
    made.master = -1;
    return master;
  }

  /** Takes them from those who have one by birth only: their parents got it later than they were born, or they gave it up. */
  withdraw<P extends Process>(processes: Iterable<P>, isWanted: (process: P) => boolean): void {
    if (this.#made.size === 0) return;
    for (const process of processes) {
      const index = controllingTerminal(process.pid);
      const made = index === undefined ? undefined : this.#made.get(index);
      if (made !== undefined && !isWanted(process)) this.#ioctl(process, made.slave, TIOCNOTTY);
    }
  }

  #close(index: number, { master, slave }: Made): void {
    closeDescriptor(slave);
    closeDescriptor(master);
    this.#made.delete(index);
  }

  close(): void {
    for (const [index, made] of [...this.#made]) this.#close(index, made);
  }
}
