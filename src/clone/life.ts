/**
 * Brings a skeleton to life: descriptors, signal actions, identity, registers. Everything that may be done before the
 * application speaks is done before; what remains for the instant of life is collected in `atLife`.
 */

import type { Resource, ZombieState } from "../checkpoint/operations.ts";
import { phaseEnd } from "../checkpoint/phases.ts";
import type { ProcessResource, ThreadState } from "../checkpoint/process-capture.ts";
import { closeDescriptor, pidfdGetfd, pidfdOpen } from "../kernel/calls.ts";
import { clocksAhead } from "../kernel/clocks.ts";
import { OperatingError } from "../kernel/failure.ts";
import { inIpcNamespace, inNamespace } from "../kernel/namespace.ts";
import { setSessionNice } from "../kernel/procfs.ts";
import { signalMask } from "../kernel/trace.ts";
import type { CreateContext, Inside } from "../resources/kind.ts";
import { inOrder, kindNamed } from "../resources/kinds.ts";
import { NAMESPACE_KINDS, namespaceKindNamed } from "../resources/namespace-kinds.ts";
import { halt } from "../resources/process/halt.ts";
import { type Limits, setLimits } from "../stage/limits.ts";
import { INSTANCE_HANDLE, type Stage } from "../stage/stage.ts";
import type { ExpectedWait } from "../tree/timed-waits.ts";
import type { Ending } from "../tree/tracees.ts";
import { installDescriptors } from "./descriptors.ts";
import { finishProcess, restoreThread } from "./finish.ts";
import { giveIdentity } from "./identity.ts";
import type { Skeleton } from "./skeleton.ts";
import { beginSession, type SkeletonProcess } from "./skeleton-process.ts";
import { handleOfEnded, inGroupOf, makeZombie } from "./zombie.ts";

type States = ReadonlyMap<string, Resource>;

function statesOf<T>(states: States, kind: string): T[] {
  return [...states.values()].filter((resource) => resource.kind === kind).map((resource) => resource.state as T);
}

/** Threads that each process has, from the states. */
export function threadsWanted(states: States): Map<number, Set<number>> {
  const wanted = new Map<number, Set<number>>();
  for (const { process, tid } of statesOf<ThreadState>(states, "thread")) {
    const tids = wanted.get(process) ?? new Set();
    wanted.set(process, tids.add(tid));
  }
  return wanted;
}

/** What has been prepared and waits for the instant of life. */
export interface Prepared {
  /** Host tids of all threads, stopped, their registers set. */
  tids: number[];
  /** Processes that have ended and that their parents have not collected. */
  ended: Ending[];
  /** Calls with a time limit that threads go on with. */
  waits: ExpectedWait[];
  /** Threads that the application had stopped. */
  halted: number[];
  /** To be run, in order, when the application may speak: sockets leave repair mode, timers start. */
  atLife: Array<() => void>;
}

const OWN_KINDS = new Set(["process", "thread", "descriptors", "zombie", "limits"]);

/** Whether a state's version is one this program understands. */
export function checkVersions(states: States): void {
  for (const [key, { kind, version }] of states) {
    const known = OWN_KINDS.has(kind) ? 1 : (kindNamed(kind) ?? namespaceKindNamed(kind))?.version;
    if (known === version) continue;
    throw new OperatingError(
      "image-version",
      `The checkpoint's ${key} is of kind "${kind}" version ${version}, known is ${known ?? "none"}`,
      {
        remedy: "Run the same version of Understudy on all nodes.",
      },
    );
  }
}

/** With thousands of descriptors or processes it takes long: it pauses after each, for signs of life. Nothing else may touch the clone then. */
export function* prepare(stage: Stage, skeleton: Skeleton, states: States): Generator<void, Prepared> {
  checkVersions(states);
  skeleton.setThreads(threadsWanted(states));
  const atLife: Array<() => void> = [];
  const ended = joinGroups(skeleton, states);
  createInNamespace(stage, skeleton, states);
  const own = yield* createDescriptions(stage, skeleton, states, atLife);
  const halted: number[] = [];
  try {
    skeleton.terminals.withdraw(skeleton.processes.values(), (process) => stateOf(process, states).terminal >= 0);
    for (const process of haltedFirst(skeleton, states)) {
      const state = stateOf(process, states);
      collectHalts(skeleton, process, states);
      giveIdentity(skeleton, process, state);
      yield* installDescriptors(process, states, own);
      const threads = statesOf<ThreadState>(states, "thread").filter((t) => t.process === process.virtualPid);
      for (const thread of threads) restoreThread(process, thread);
      skeleton.unmapWindow(process);
      if (process.session === process.virtualPid) setSessionNice(process.pid, 0);
      finishProcess(stage, process, state, threads);
      if (state.halted) {
        halt(process.pid, new Map(threads.map(({ tid, record }) => [process.threads.get(tid)!, maskIn(record)])));
        halted.push(...process.threads.values());
      }
      yield;
    }
  } finally {
    atLife.push(() => {
      for (const fd of own.values()) closeDescriptor(fd);
      skeleton.terminals.close();
    });
  }
  for (const limits of statesOf<Limits>(states, "limits")) setLimits(stage.cgroup, limits);
  const tids = [...skeleton.processes.values()].flatMap((process) => [...process.threads.values()]);
  phaseEnd("restore");
  return { tids, ended, waits: waitsOf(skeleton, states), halted, atLife };
}

/** Whose parents must still be made whole when they are sent word of it: children before them. */
function haltedFirst(skeleton: Skeleton, states: States): SkeletonProcess[] {
  const all = [...skeleton.processes.values()];
  const halted = all.filter((process) => stateOf(process, states).halted);
  if (halted.length === 0) return all;
  const depth = (process: SkeletonProcess | undefined): number =>
    process === undefined ? 0 : 1 + depth(skeleton.processes.get(stateOf(process, states).parent));
  halted.sort((a, b) => depth(b) - depth(a));
  return [...halted, ...all.filter((process) => !halted.includes(process))];
}

const WNOHANG = 1;
const WUNTRACED = 2;

/** What it had collected with wait(2) of children that are stopped is not told again. */
function collectHalts(skeleton: Skeleton, parent: SkeletonProcess, states: States): void {
  for (const child of skeleton.processes.values()) {
    const { parent: of, halted } = stateOf(child, states);
    if (of === parent.virtualPid && halted?.told)
      parent.remote.call("wait4", child.virtualPid, 0, WUNTRACED | WNOHANG, 0);
  }
}

function maskIn(record: Buffer): Buffer {
  const mask = Buffer.alloc(8);
  mask.writeBigUInt64LE(signalMask(record));
  return mask;
}

function waitsOf(skeleton: Skeleton, states: States): ExpectedWait[] {
  return statesOf<ThreadState>(states, "thread").flatMap(({ process, tid, wait }) => {
    const home = skeleton.processes.get(process);
    const host = home?.threads.get(tid);
    if (wait === undefined || home === undefined || host === undefined) return [];
    return [{ tid: host, number: wait.call, until: BigInt(wait.untilUs) * 1000n - clocksAhead(home.pid).monotonic }];
  });
}

function stateOf(process: SkeletonProcess, states: States): ProcessResource {
  const state = states.get(`process/${process.virtualPid}`)?.state as ProcessResource | undefined;
  if (state) return state;
  throw new OperatingError("checkpoint-inconsistent", `The checkpoint has no state of process ${process.virtualPid}`);
}

/** System V objects; shared memory is attached by now to those who have it. */
function createInNamespace(stage: Stage, skeleton: Skeleton, states: States): void {
  const found = NAMESPACE_KINDS.map((kind) => ({ kind, ofKind: statesOf(states, kind.kind) }));
  if (found.some(({ ofKind }) => ofKind.length > 0))
    inIpcNamespace(stage.ipcFd, () => {
      for (const { kind, ofKind } of found)
        kind.create(ofKind, (virtualPid) => {
          const process = skeleton.processes.get(virtualPid);
          return process && insideOf(process);
        });
    });
  skeleton.segments.release();
}

/** Sessions first, then groups: leaders before those who join them. Returns the ended ones, which are in groups, too. */
function joinGroups(skeleton: Skeleton, states: States): Ending[] {
  const all = [...skeleton.processes.values()].map((process) => ({ process, ...stateOf(process, states) }));
  const zombies = statesOf<ZombieState>(states, "zombie");
  for (const { process, session, pid } of all) if (session === pid) beginSession(process);
  const join = (process: SkeletonProcess, group: number) => {
    if (process.group !== group) process.remote.call("setpgid", 0, group);
    process.group = group;
  };
  for (const { process, group, pid } of all) if (group === pid) join(process, group);
  const ended = zombies.filter(({ group, pid }) => group === pid).map((zombie) => makeZombie(skeleton, zombie));
  const others = zombies.filter(({ group, pid }) => group !== pid);
  for (const [group, members] of Map.groupBy(all, ({ group }) => group)) {
    const enter = () => {
      for (const { process } of members) join(process, group);
      const inGroup = others.filter((zombie) => zombie.group === group);
      ended.push(...inGroup.map((zombie) => makeZombie(skeleton, zombie)));
    };
    const isLed = skeleton.processes.has(group) || zombies.some(({ pid }) => pid === group);
    if (isLed || members.some(({ process }) => process.group === group)) enter();
    else inGroupOf(members[0]!.process, group, enter);
  }
  const groups = new Set(all.map(({ group }) => group));
  const alone = others.filter(({ group }) => !groups.has(group));
  ended.push(
    ...alone.map((zombie) => makeZombie(skeleton, { ...zombie, group: skeleton.process(zombie.parent).group })),
  );
  return ended;
}

/** Makes every open file description, in this process; returns its descriptors by description. */
function* createDescriptions(
  stage: Stage,
  skeleton: Skeleton,
  states: States,
  atLife: Array<() => void>,
): Generator<void, Map<string, number>> {
  const own = new Map<string, number>();
  const whenCreated: Array<(own: ReadonlyMap<string, number>) => void> = [];
  const context: CreateContext = {
    rootFd: stage.rootFd,
    inNetwork: (body) => inNamespace(stage.networkFd, body),
    shared: new Map(),
    states: new Map([...states].filter(([key]) => key.startsWith("description/"))),
    object: (id) => skeleton.objects.get(id),
    numbered: (path, inode, make) => skeleton.numbered(path, inode, make),
    whenCreated: (action) => whenCreated.push(action),
    inside: ((virtualPid?: number) => {
      const [first] = skeleton.processes.values();
      const process = virtualPid === undefined ? first : skeleton.processes.get(virtualPid);
      return process && insideOf(process);
    }) as CreateContext["inside"],
    terminal: (index) => skeleton.terminals.take(index),
    atLife: (action) => atLife.push(action),
  };
  for (const kind of inOrder()) {
    const ofKind = [...states].filter(([key, r]) => r.kind === kind.kind && key.startsWith("description/"));
    if (kind.createAll) {
      const fds = kind.createAll(
        ofKind.map(([, r]) => r.state),
        context,
      );
      ofKind.forEach(([key], i) => own.set(key.slice("description/".length), fds[i]!));
    } else
      for (const [key, resource] of ofKind) {
        own.set(key.slice("description/".length), kind.create(resource.state, context));
        yield;
      }
  }
  for (const action of whenCreated) action(own);
  return own;
}

function insideOf(process: SkeletonProcess): Inside {
  const { pid, remote } = process;
  return {
    pid,
    handleOfEnded: () => handleOfEnded(process),
    remote,
    give: (fd) => remote.call("pidfd_getfd", INSTANCE_HANDLE, fd, 0),
    fetch(fd) {
      const pidfd = pidfdOpen(pid);
      try {
        return pidfdGetfd(pidfd, fd);
      } finally {
        closeDescriptor(pidfd);
        remote.call("close", fd);
      }
    },
  };
}
