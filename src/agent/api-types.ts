/** What the API's documents look like (docs/api.md). Fields are only ever added. */

import type { ApplicationInput } from "../cluster/application.ts";
import type { Move } from "../cluster/balance.ts";
import type { Load } from "../cluster/placement.ts";
import type { ApplyPlan } from "../cluster/plan.ts";
import type { CommitPolicy, OnTooFew, OnUnprotectable } from "../cluster/spec.ts";
import type { FileEntry } from "../files/own.ts";
import type { CheckpointSummary, InstanceStatus, StandbyStatus } from "../instance/control.ts";
import type { Failure } from "../kernel/failure.ts";
import type { Role } from "./roles.ts";

/** Body of `POST /v1/applications`: keys as in docs/app.yaml. */
export interface ProtectRequest extends ApplicationInput {
  /** Answer only when all standbys are in sync; default true. */
  wait?: boolean;
}

/** Body of `PUT /v1/applications/NAME`. */
export interface ApplyRequest extends ProtectRequest {
  /** End the application and start it anew when a change takes that; default false: refused. */
  recreate?: boolean;
}

export interface ApplyResult {
  plan: ApplyPlan;
  report: ApplicationReport;
}

export interface ProtectProgress {
  step: "stopping" | "starting" | "running" | "clone" | "synchronising" | "in-sync";
  message: string;
  node?: string;
  remainingBytes?: number;
  totalBytes?: number;
  bytesPerSecond?: number;
  secondsLeft?: number;
}

/** One line of a streamed answer: progress, then one result or one error. */
export type StreamLine<T, P = ProtectProgress> = { progress: P } | { result: T } | { error: Failure };

export type ApplicationState =
  | "starting"
  | "running"
  | "protected"
  /** Fewer standbys are in sync than `minInSync`, and output waits for that (`onTooFew: hold`). */
  | "holding"
  | "switching"
  /** The instance on the primary is gone, the application lives: the agent takes it up again. */
  | "recovering"
  /** The primary has neither an instance nor the application, and nobody took over. */
  | "lost"
  /** The primary's agent does not answer. */
  | "unreachable"
  | "ended";

export interface ApplicationReport {
  name: string;
  state: ApplicationState;
  primary: string | null;
  term: number;
  inSync: string[];
  address: string;
  command: string[];
  minInSync: number;
  onTooFew: OnTooFew;
  commit: CommitPolicy;
  period: number | "auto";
  keep: number;
  onUnprotectable: OnUnprotectable;
  home: string;
  wanted: string[];
  /** Clones that are wanted and for which there is no node. */
  missing: number;
  /** Of the specification by which the wanted nodes have been chosen; 0: they have not been yet. */
  placed: number;
  createdAt: string;
  ended?: { reason: string; at: string };
  /** The store does not answer: term, primary and who is in sync are what it has told last. */
  stale?: true;
  standbys: StandbyStatus[];
  /** What the primary's instance says; null when it cannot be asked. */
  instance: InstanceStatus | null;
  /** Why something wanted is not so, newest per node. */
  problems: { node: string; failure: Failure }[];
}

export interface NodeReport {
  name: string;
  api: string;
  labels: Record<string, string>;
  alive: boolean;
  /** Applications whose primary it is, as far as the store knows. */
  primaryOf: string[];
  standbyOf: string[];
  /** Being emptied, or empty, for maintenance. */
  drained: boolean;
  agent: { pid: number; startedAt: string; version: string } | null;
}

export interface Health {
  name: string;
  agent: { pid: number; startedAt: string; version: string };
  /** Absent from agents of older versions. */
  load?: { capacity: Load; applications: Record<string, Load> };
  instances: { application: string; pid: number; role: string; state: string; term: number }[];
}

export interface SwitchRequest {
  to?: string;
  /** An older checkpoint that the standby holds. */
  checkpoint?: number;
  /** Also without the primary, or when it refuses. */
  force?: boolean;
}

export interface SwitchResult {
  application: string;
  from: string;
  to: string;
  term: number;
  /** Of a planned switch: how long the application stood still. */
  stopMs: number | null;
}

export interface CloneRequest {
  /** Who asks: must be the view's primary. */
  primary: string;
  term: number;
  createdAt: string;
}

export interface CloneAnswer {
  host: string;
  port: number;
}

/** What the application created or changed: a directory's entries, or the one entry at the path. */
export interface FileListing {
  application: string;
  /** Whose copy this is. */
  node: string;
  /** What that copy is: of the running application, of a clone, or what an ended application left. */
  role: "primary" | "standby" | "ended";
  path: string;
  isDirectory: boolean;
  entries: FileEntry[];
}

export interface DrainProgress {
  step: "switching" | "failed" | "waiting";
  application: string;
  message: string;
}

export interface DrainResult {
  node: string;
  moved: SwitchResult[];
}

export interface BalanceResult {
  plan: Move[];
  /** Those of the plan that were made. */
  done: Move[];
}

/** A user of the API. */
export interface UserReport {
  name: string;
  role: Role;
  createdAt: string;
  expiresAt?: string;
}

export interface NewUser extends UserReport {
  /** Shown this once; the cluster keeps only its hash. */
  token: string;
}

export interface TokenReport {
  id: string;
  expiresAt: string;
  /** Else it lets one node in. */
  reusable: boolean;
  /** Only for this node, which may be one that is made anew. */
  node?: string;
}

export interface JoinToken extends TokenReport {
  /** `uj1.ID.SECRET.FINGERPRINT`, shown this once. */
  token: string;
}

export interface JoinAnswer {
  name: string;
  /** PEM */
  certificate: string;
  ca: string;
  /** URL of the cluster store. */
  store: string;
}

export interface AuditEntry {
  /** RFC 3339 */
  at: string;
  /** `user:NAME`, `local:NAME`, `node:NAME`. */
  user: string;
  /** Where it was to be done, as far as the asker said. */
  node: string;
  /** Method and path. */
  request: string;
  /** Its beginning, without secrets. */
  body?: string;
  endedAt?: string;
  /** `done`, or a failure's code; absent while it goes on, and when the agent did not see its end. */
  result?: string;
}

export type { ApplyPlan, CheckpointSummary, FileEntry };
