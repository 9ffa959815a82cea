/** The node's daemon: wires the rooms and serves the API. Its death harms no application: instances are on their own. */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { Identity } from "../cluster/identity.ts";
import { openStore } from "../cluster/open.ts";
import { toFailure } from "../kernel/failure.ts";
import { createApi } from "./api.ts";
import { AuditTrail } from "./audit.ts";
import { Backoff } from "./backoff.ts";
import { callerHeaders } from "./caller.ts";
import { makeCgroup, nodeCgroup } from "./cgroup.ts";
import type { AgentConfig } from "./config.ts";
import type { AgentContext } from "./context.ts";
import { diagnose } from "./diagnosis.ts";
import { EventLog } from "./events.ts";
import { Instances } from "./instances.ts";
import { KnownRecords } from "./known-records.ts";
import { layoutOf } from "./layout.ts";
import { limits } from "./limits.ts";
import { LoadMeter } from "./load.ts";
import { Locks } from "./locks.ts";
import { Peers } from "./peers.ts";
import { undoHalfDone } from "./protect.ts";
import { Reconciler } from "./reconcile.ts";
import { type NodeRecord, Records } from "./records.ts";
import { keepRenewed } from "./renewal.ts";
import { serveTls, serveUnix } from "./servers.ts";
import { watchStore } from "./store-watch.ts";

export interface Agent {
  /** Ends the agent; instances live on. */
  close(): Promise<void>;
}

/** @throws OperatingError of the store, the certificates, or `agent-running`, `listen-failed` */
export async function startAgent(config: AgentConfig, log: Logger): Promise<Agent> {
  const layout = layoutOf(config, nodeCgroup(config.cgroup));
  mkdirSync(config.runDirectory, { recursive: true, mode: 0o700 });
  mkdirSync(layout.applicationsDirectory, { recursive: true, mode: 0o700 });
  makeCgroup(dirname(layout.applicationCgroup("x")));
  const identity = await Identity.open(config.tls);
  const store = await openStore(config.store, identity);
  const records = new Records(store);
  const events = new EventLog(config.name);
  const context: AgentContext = {
    config,
    node: config.name,
    layout,
    store,
    records,
    known: new KnownRecords(),
    peers: new Peers(records, identity, callerHeaders),
    events,
    audit: new AuditTrail(layout.auditFile),
    instances: new Instances(config, layout, events, () => reconciler.wake()),
    locks: new Locks(),
    backoff: new Backoff(),
    log,
    startedAt: new Date().toISOString(),
    problems: new Map(),
    placed: new Map(),
    protecting: new Map(),
    switching: new Map(),
    drained: new Set(),
    storeAway: false,
    get load() {
      return load;
    },
    wake: () => reconciler.wake(),
  };
  const load = new LoadMeter(context);
  const reconciler: Reconciler = new Reconciler(context);
  events.follow(({ sequence, at, node, message, ...event }) => log.info(event, message), new AbortController().signal);

  // The unix socket first: it is what says that no other agent serves this node.
  const api = createApi(context);
  const unix = await serveUnix(api, layout.agentSocket, Object.keys(config.access).length > 0);
  // Before other nodes can ask for anything.
  context.instances.adoptAll();
  const { host, port } = config.listen;
  const secure = await serveTls(api, host, port, identity);
  const ended = new AbortController();
  diagnose(context, ended.signal);
  events.add({ kind: "agent-started", message: `The agent of "${config.name}" runs` });
  // What is protected here goes on without the store; so does its agent.
  const node: NodeRecord = {
    name: config.name,
    api: `https://${host}:${port}`,
    labels: config.labels,
    ...(config.authority !== undefined && { authority: true }),
  };
  load.start(ended.signal);
  void keepRenewed(context, identity, ended.signal);
  void watchStore(context, ended.signal);
  void register(context, node, ended.signal)
    .then(() => undoHalfDone(context))
    .catch((error) => log.error({ err: error }, "undoing what was half done failed"))
    .finally(() => reconciler.start());
  return {
    async close() {
      ended.abort();
      reconciler.stop();
      await Promise.all([unix.close(), secure.close()]);
      identity.close();
      context.peers.close();
      store.close();
    },
  };
}

/** Writes this node's record, trying again until the store answers. */
async function register({ records, log }: AgentContext, node: NodeRecord, signal: AbortSignal): Promise<void> {
  for (let failures = 0; !signal.aborted; failures++) {
    try {
      await records.register(node);
      return;
    } catch (error) {
      if (failures === 0) log.warn({ failure: toFailure(error) }, "cannot register this node yet");
      await sleep(limits.retryFirstMs, undefined, { signal }).catch(() => {});
    }
  }
}
