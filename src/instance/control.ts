/**
 * The control protocol between a node's agent and the instance of an application on that node: JSON lines over a unix
 * socket. Request `{id, method, params}`, answer `{id, result}` or `{id, error: Failure}`, event `{event, data}`.
 */
import type { Phase, Place } from "../checkpoint/phases.ts";
import type { ApplicationSpec } from "../cluster/spec.ts";
import type { Failure } from "../kernel/failure.ts";
import type { Graph } from "../tree/graph.ts";

/** The JSON file an instance is started with: `node src/instance/main.ts FILE`. */
export interface InstanceConfig {
  application: ApplicationSpec;
  /** This node. */
  node: string;
  /** `start`: run the command as primary. `attach`: take up the running application again after this process's predecessor died. */
  begin: "start" | "attach" | "standby";
  /** Directory of this application on this node, on a real file system; survives the instance. */
  stateDirectory: string;
  /** Files of earlier clones on this node: what is the same in them is not sent again. On the state directory's file system. */
  keptDirectory: string;
  /** Where the control socket, pid file and log are. */
  runDirectory: string;
  /** Unix socket this instance listens on for control: `RUN/NAME.sock`. */
  controlSocket: string;
  /** cgroup2 directory of the application's own processes (made by the instance, not containing the instance). */
  cgroup: string;
  /** cgroup2 directory that a health probe's command gets, not there in between. */
  probeCgroup: string;
  /** Bridge of the node to which the application's veth is attached. */
  bridge: string;
  /** Cluster store: `sqlite:/path`. */
  store: string;
  tls: { ca: string; certificate: string; key: string };
  /** Address the clone's stream listens on (standby), and from which the primary connects. */
  listenHost: string;
}

export interface ControlMethods {
  /** Answers once the instance can say what it is. */
  status: { params: Record<string, never>; result: InstanceStatus };
  /** Takes a checkpoint now and answers when every in-sync standby holds it. */
  checkpoint: { params: Record<string, never>; result: CheckpointSummary };
  checkpoints: { params: Record<string, never>; result: CheckpointSummary[] };
  /** Primary: what the application consists of and leans on, as of the last checkpoint. */
  tree: { params: Record<string, never>; result: Graph };
  /** Primary: connect to the clone that listens there and bring it in sync; answers when connected, not when in sync. */
  addStandby: { params: { node: string; host: string; port: number }; result: Record<string, never> };
  removeStandby: { params: { node: string }; result: Record<string, never> };
  /** Primary: planned switch. Answers when the other node runs the application, or with the failure; then it goes on here. */
  switch: { params: { to: string }; result: { term: number; primary: string; stopMs: number } };
  /** Standby: take over without a suspicion (forced). `checkpoint` chooses an older epoch that is held. */
  promote: { params: { checkpoint?: number; force: boolean }; result: { term: number } };
  /** For tests: lets each of these phases fail once, the next time it is gone through; then the note `failure-injected` comes. */
  fail: { params: { phases: Phase[] }; result: Record<string, never> };
  /** For tests: the process stops itself (SIGSTOP) when it comes to that place next, once. */
  halt: { params: { place: Place }; result: Record<string, never> };
  /** Ends the application (primary) or gives the clone up (standby), and the instance. */
  stop: { params: Record<string, never>; result: Record<string, never> };
}

export type InstanceRole = "primary" | "standby";

export interface StandbyStatus {
  node: string;
  state: "connecting" | "synchronising" | "in-sync" | "lost";
  /** Bytes of the first copy still to send. */
  remainingBytes?: number;
  /** The first copy, while it is under way. */
  synchronisation?: SynchronisationStatus;
  acknowledgedEpoch?: number;
  /** Now minus the instant of the last acknowledged checkpoint. */
  lagMs?: number;
}

export interface SynchronisationStatus {
  step: "files" | "memory";
  /** Known so far; it grows as the application writes. */
  totalBytes: number;
  remainingBytes: number;
  /** Through the network, with what belongs to it. */
  sentBytes: number;
  /** Of files: had by the standby, not sent. */
  keptBytes: number;
  /** Dealt with, sent or not, over the last seconds. */
  bytesPerSecond: number;
  /** Absent while nothing moves. */
  secondsLeft?: number;
}

export interface CheckpointSummary {
  epoch: number;
  term: number;
  /** RFC 3339 */
  at: string;
  stopUs: number;
  pages: number;
  bytes: number;
  /** From its begin to the last standby's acknowledgement; absent: not all have it. On a standby always absent. */
  commitUs?: number;
}

export interface InstanceStatus {
  application: string;
  node: string;
  role: InstanceRole;
  /** `starting`, `running` (alone), `protected`, `switching`; standby: `synchronising`, `ready`, `going-live`. */
  state: string;
  term: number;
  epoch: number;
  /** Host pid of the application's init; 0 when there is none. */
  initPid: number;
  instancePid: number;
  /** Revision in the store of the specification that it goes by; 0 before it has seen one. */
  specification: number;
  /** Standby: where its stream listens. */
  stream?: { host: string; port: number };
  /** Standby: a clone failed here for a reason of its own; the next one shall begin with a process of its own. */
  worn?: true;
  standbys: StandbyStatus[];
  /** Primary: why the last first copy to a standby failed, until one succeeds; absent without any. */
  failed?: { node: string; failure: Failure }[];
  processes: number;
  threads: number;
  /** Primary: what keeps it from being protected since when; absent when nothing does, as far as the last try showed. */
  unprotectable?: Failure & { since: string };
  /** Primary: what its probes say; absent without any. */
  health?: HealthStatus;
  /** Since the role began; times of checkpoints' stops in microseconds. */
  figures: InstanceFigures;
}

export interface HealthStatus {
  probe: "tcp" | "http" | "exec";
  /** `unknown`: none has passed yet, and it is still early. `failing`: some have failed, too few for a hang. */
  state: "unknown" | "passing" | "failing" | "hangs";
  /** In a row. */
  failures: number;
  /** Of the last that failed. */
  why?: string;
}

export interface InstanceFigures {
  checkpoints: number;
  checkpointsPerSecond: number;
  stopUs: { median: number; p99: number; max: number };
  /** From the barrier to the last acknowledgement. */
  commitUs: { median: number; p99: number; max: number };
  pagesPerCheckpoint: number;
  bytesPerCheckpoint: number;
  heldPackets: number;
  residentBytes: number;
}

/** Events an instance sends on every control connection. */
export interface ControlEvents {
  /** Something an operator may want to read; `kind` is stable, kebab-case. */
  note: { at: string; kind: string; message: string; details?: Record<string, unknown> };
  /** Role or state changed; the agent asks `status` for more. */
  changed: { role: InstanceRole; state: string; term: number };
}
