/** What the rooms of the agent share. */
import type { Logger } from "pino";
import type { ClusterStore } from "../cluster/store.ts";
import type { Failure } from "../kernel/failure.ts";
import type { AuditTrail } from "./audit.ts";
import type { Backoff } from "./backoff.ts";
import type { AgentConfig } from "./config.ts";
import type { EventLog } from "./events.ts";
import type { Instances } from "./instances.ts";
import type { KnownRecords } from "./known-records.ts";
import type { Layout } from "./layout.ts";
import type { LoadMeter } from "./load.ts";
import type { Locks } from "./locks.ts";
import type { Peers } from "./peers.ts";
import type { Records } from "./records.ts";

export interface AgentContext {
  config: AgentConfig;
  node: string;
  layout: Layout;
  store: ClusterStore;
  records: Records;
  /** The same as the store has told of them last. */
  known: KnownRecords;
  peers: Peers;
  events: EventLog;
  audit: AuditTrail;
  instances: Instances;
  locks: Locks;
  backoff: Backoff;
  log: Logger;
  startedAt: string;
  /** Why a clone could not be made, by application and node; gone when it could. */
  problems: Map<string, Map<string, Failure>>;
  /** A `protect` that is under way here, by application: to end it early. */
  protecting: Map<string, AbortController>;
  /** Planned switches away from here that still wait for their instance's word. */
  switching: Map<string, Promise<unknown>>;
  /** Nodes that are being emptied, or are empty, for maintenance. */
  drained: Set<string>;
  /** By application whose primary is here: the revision of the specification by which its clones have been placed. */
  placed: Map<string, number>;
  /** The store has not answered this agent's last questions: see store-watch.ts. */
  storeAway: boolean;
  load: LoadMeter;
  /** Asks for a look at everything soon. */
  wake(): void;
}

export const version = "0.1.0";
