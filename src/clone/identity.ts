/** What a process is besides its threads and descriptors: program, memory marks, working directory, limits. */
import { writeFileSync } from "node:fs";
import type { ProcessResource } from "../checkpoint/process-capture.ts";
import { call, closeDescriptor, openInRoot } from "../kernel/calls.ts";
import { O_RDONLY } from "../kernel/files.ts";
import type { Remote, RemoteCall } from "../kernel/remote.ts";
import { permitTiles } from "../resources/process/tiles.ts";
import { INSTANCE_HANDLE } from "../stage/stage.ts";
import type { Skeleton } from "./skeleton.ts";
import type { SkeletonProcess } from "./skeleton-process.ts";

const PR_SET_MM = 35;
const PR_SET_MM_MAP = 14;
const MM_MAP_BYTES = 104;
const RLIM_INFINITY = 0xffffffffffffffffn;

/** struct prctl_mm_map: the marks that /proc shows and brk works by. */
function memoryMap(remote: Remote, process: SkeletonProcess, state: ProcessResource, executableFd: number): Buffer {
  const { marks, inner, auxv } = state;
  const heapEnd = process.areas.filter((area) => area.heap).reduce((end, area) => Math.max(end, area.end), 0);
  const brk = inner.brk <= heapEnd && inner.brk > heapEnd - 4096 ? inner.brk : heapEnd || marks.startBrk;
  const map = Buffer.alloc(MM_MAP_BYTES);
  const { startCode, endCode, startData, endData, startBrk, startStack, argStart, argEnd, envStart, envEnd } = marks;
  [startCode, endCode, startData, endData, startBrk, brk, startStack, argStart, argEnd, envStart, envEnd].forEach(
    (mark, i) => {
      map.writeBigUInt64LE(BigInt(mark), 8 * i);
    },
  );
  map.writeBigUInt64LE(BigInt(remote.put(auxv)), 88);
  map.writeUInt32LE(auxv.length, 96);
  map.writeInt32LE(executableFd, 100);
  return map;
}

/** Everything about the process that is not of one thread and not a descriptor. Needs the instance's handle. */
export function giveIdentity(skeleton: Skeleton, process: SkeletonProcess, state: ProcessResource): void {
  const { remote, pid } = process;
  const { inner } = state;
  raiseDescriptorLimit(pid);
  remote.reset();
  const named = state.executableId === undefined;
  const executable = named
    ? openInRoot(skeleton.stage.rootFd, state.executable, O_RDONLY)
    : skeleton.objects.program(state.executableId!);
  try {
    const [theirs] = remote.batchChecked([["pidfd_getfd", INSTANCE_HANDLE, executable, 0]]);
    const map = remote.put(memoryMap(remote, process, state, theirs!));
    remote.batchChecked([
      ["prctl", PR_SET_MM, PR_SET_MM_MAP, map, MM_MAP_BYTES, 0],
      ["close", theirs!],
      ...workingDirectoryCalls(remote, state.workingDirectory),
      ["umask", state.umask],
      ["personality", state.personality],
      ...permitTiles(inner.tilesPermitted),
    ]);
  } finally {
    if (named) closeDescriptor(executable);
  }
  if (state.oomScoreAdjustment !== "0") writeFileSync(`/proc/${pid}/oom_score_adj`, state.oomScoreAdjustment);
}

const GONE = " (deleted)";
const SUBSTITUTE = "/tmp/.understudy-gone";

/** One that has been removed is made for a moment: like it, it has no name any more afterwards. */
function workingDirectoryCalls(remote: Remote, path: string): RemoteCall[] {
  if (!path.endsWith(GONE)) return [["chdir", remote.putString(path)]];
  const substitute = remote.putString(SUBSTITUTE);
  return [
    ["mkdir", substitute, 0o755],
    ["chdir", substitute],
    ["rmdir", substitute],
  ];
}

const RLIMIT_NOFILE = 7;

export function setLimit(pid: number, resource: number, soft: number, hard: number): void {
  const value = Buffer.alloc(16);
  value.writeBigUInt64LE(soft < 0 ? RLIM_INFINITY : BigInt(soft), 0);
  value.writeBigUInt64LE(hard < 0 ? RLIM_INFINITY : BigInt(hard), 8);
  call("prlimit64", pid, resource, value, null);
}

/** Descriptors are moved about above the application's own: that needs the room which the hard limit allows. */
function raiseDescriptorLimit(pid: number): void {
  const value = Buffer.alloc(16);
  call("prlimit64", pid, RLIMIT_NOFILE, null, value);
  const hard = Number(value.readBigUInt64LE(8));
  setLimit(pid, RLIMIT_NOFILE, hard, hard);
}
