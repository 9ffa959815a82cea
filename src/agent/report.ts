/** What is told about an application and about the nodes. */
import { missingStandbys, noPlacement } from "../cluster/standbys.ts";
import type { InstanceStatus } from "../instance/control.ts";
import { type Failure, OperatingError } from "../kernel/failure.ts";
import type { ApplicationReport, ApplicationState, NodeReport } from "./api-types.ts";
import type { AgentContext } from "./context.ts";
import { initAlive } from "./leftovers.ts";
import { limits } from "./limits.ts";
import type { ApplicationRecord } from "./records.ts";
import { isStoreAway } from "./store-watch.ts";
import { wanted } from "./wanted.ts";

/** `stale`: the store does not answer, and this is what it has told last. */
type ReportedRecord = ApplicationRecord & { stale?: true };

/** The report as this node sees it. @throws OperatingError `application-unknown` */
export async function report(context: AgentContext, name: string): Promise<ApplicationReport> {
  // Before the record: what has been placed by now is in it.
  const placed = context.placed.get(name) ?? 0;
  const record = await knownRecord(context, name);
  const isPrimary = record.view?.value.primary === context.node;
  const instance = isPrimary ? context.instances.get(name) : undefined;
  await instance?.refresh();
  return describe(context, record, stateHere(context, record), instance?.status ?? null, placed);
}

function stateHere(context: AgentContext, { name, view }: ApplicationRecord): ApplicationState {
  if (view === undefined) return "starting";
  if (view.value.ended) return "ended";
  if (view.value.primary !== context.node) return "unreachable";
  const instance = context.instances.get(name);
  if (instance === undefined) return initAlive(context.config.runDirectory, name) ? "recovering" : "lost";
  const status = instance.status;
  // The clone that has just won the term is on its way to life.
  if (status?.role === "standby") return "switching";
  return (status?.state as ApplicationState | undefined) ?? (instance.begin === "start" ? "starting" : "recovering");
}

function describe(
  context: AgentContext,
  record: ReportedRecord,
  state: ApplicationState,
  instance: InstanceStatus | null,
  placed: number,
): ApplicationReport {
  const { name, spec, view, placement } = record;
  const { command, commit, period, keep, home, address, createdAt, minInSync, onTooFew, onUnprotectable } = spec!.value;
  const primary = view?.value.primary ?? null;
  // Of one that has ended the record keeps who was in sync; there are no clones any more.
  const ended = view?.value.ended;
  const shall = ended ? [] : wanted(context, record);
  const place = { primary: primary ?? home };
  // A clone that could not be made, or one that was connected and could not be filled.
  const failed = (instance?.failed ?? []).filter(({ node }) => shall.includes(node));
  const told = failed.map(({ node, failure }): [string, Failure] => [node, failure]);
  const problems = [...new Map([...told, ...(context.problems.get(name) ?? [])])].map(([node, failure]) => ({
    node,
    failure,
  }));
  const missing = ended ? 0 : missingStandbys(spec!.value, place, placement?.value ?? noPlacement, context.drained);
  return {
    name,
    state,
    primary,
    term: view?.value.term ?? 0,
    inSync: ended ? [] : (view?.value.inSync ?? []),
    address,
    command,
    minInSync,
    onTooFew,
    commit,
    period,
    keep,
    onUnprotectable,
    home,
    wanted: shall,
    missing,
    placed,
    createdAt,
    ...(ended && { ended }),
    ...(record.stale && { stale: true as const }),
    // A clone that is not wanted any more is not lost.
    standbys: (instance?.standbys ?? []).filter((one) => one.state !== "lost" || shall.includes(one.node)),
    instance,
    problems,
  };
}

/** The store's, or, where that does not answer, as it has told of it last. @throws OperatingError `application-unknown` */
async function knownRecord(context: AgentContext, name: string): Promise<ReportedRecord> {
  const last = context.known.get(name);
  if (context.storeAway && last?.spec !== undefined) return { ...last, stale: true };
  try {
    return await context.records.known(name);
  } catch (error) {
    if (!isStoreAway(error) || last?.spec === undefined) throw error;
    return { ...last, stale: true };
  }
}

async function allRecords(context: AgentContext): Promise<ReportedRecord[]> {
  const last = () => context.known.all().map((record) => ({ ...record, stale: true as const }));
  if (context.storeAway) return last();
  try {
    return [...(await context.records.applications()).values()];
  } catch (error) {
    if (!isStoreAway(error)) throw error;
    return last();
  }
}

/** Every application, asked of its primary's agent; one whose primary does not answer is told from the store. */
export async function reportAll(context: AgentContext): Promise<ApplicationReport[]> {
  const records = (await allRecords(context)).filter(({ spec }) => spec !== undefined);
  return Promise.all(records.map((record) => askOrTell(context, record)));
}

/** As its primary's agent sees it, else told from the store. @throws OperatingError `application-unknown` */
export async function reportAnywhere(context: AgentContext, name: string): Promise<ApplicationReport> {
  return askOrTell(context, await knownRecord(context, name));
}

async function askOrTell(context: AgentContext, { name, view, stale }: ReportedRecord): Promise<ApplicationReport> {
  const primary = view?.value.primary;
  if (primary === undefined || primary === context.node || view?.value.ended) return report(context, name);
  return (await askPrimary(context, name, primary, stale)) ?? report(context, name);
}

async function askPrimary(
  context: AgentContext,
  name: string,
  primary: string,
  stale = false,
): Promise<ApplicationReport | undefined> {
  try {
    const peer = await context.peers.client(primary);
    return await peer.json<ApplicationReport>("GET", `/v1/applications/${name}`, {
      // It may have to wait for the store first.
      timeoutMs: stale ? limits.peerTimeoutMs : limits.peerHealthTimeoutMs,
      headers: { "understudy-forwarded": context.node },
    });
  } catch (error) {
    if (error instanceof OperatingError) return undefined;
    throw error;
  }
}

export async function reportNodes(context: AgentContext): Promise<NodeReport[]> {
  const [nodes, records] = await Promise.all([context.records.nodes(), context.records.applications()]);
  const views = [...records.values()].filter(({ view }) => view && !view.value.ended);
  return Promise.all(
    nodes.map(async (node) => {
      const health = await context.peers.health(node.name).catch(() => undefined);
      return {
        ...node,
        drained: context.drained.has(node.name),
        alive: health !== undefined,
        agent: health?.agent ?? null,
        primaryOf: views.filter(({ view }) => view!.value.primary === node.name).map(({ name }) => name),
        standbyOf: (health?.instances ?? [])
          .filter(({ role }) => role === "standby")
          .map(({ application }) => application),
      };
    }),
  );
}
