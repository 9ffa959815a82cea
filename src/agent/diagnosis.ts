/**
 * What a lost connection between two instances means. The instance knows only how it ended; here the peer's agent is asked, and,
 * where that is silent too, other nodes whether they reach it. Told as an event `failure-told`; nothing is decided by it.
 */
import { toFailure } from "../kernel/failure.ts";
import type { AgentContext } from "./context.ts";
import type { AgentEvent } from "./events.ts";
import { limits } from "./limits.ts";

/** `unknown`: nobody else is there who could tell a dead node from a dead link. */
export type FailureKind = "process" | "hang" | "link" | "node" | "disk" | "unknown";

export interface Evidence {
  /** How the connection ended: see LossKind. */
  how: string;
  /** What the peer's agent says of its instance; undefined: the agent does not answer. */
  instance?: { there: boolean; answers: boolean };
  /** Whether other nodes reach the peer's agent; empty: there are none that answer. */
  reachedByOthers: boolean[];
  /** It was a standby of this node's primary, which has lost its term by now, or given it away. */
  overtaken: boolean;
}

/** Undefined: none, a standby that goes on in another term has ended the stream itself. */
export function failureKind({ how, instance, reachedByOthers, overtaken }: Evidence): FailureKind | undefined {
  if (overtaken && how !== "silent" && instance?.answers) return undefined;
  if (instance === undefined) {
    if (reachedByOthers.length === 0) return "unknown";
    return reachedByOthers.includes(true) ? "link" : "node";
  }
  if (how === "closed" || !instance.there) return "process";
  return instance.answers ? "link" : "hang";
}

const MEANING: Record<FailureKind, string> = {
  process: "the process has ended, its node is well",
  hang: "the process is there and does not answer",
  link: "the link is disturbed: process and node are well",
  node: "the node does not answer anybody",
  disk: "a disk does not do its work",
  unknown: "node or link, nobody else can tell",
};

/** A process that runs answers within this time, on a busy machine too. */
const ANSWER_MS = 1000;

/** Follows the events of this node's instances. */
export function diagnose(context: AgentContext, signal: AbortSignal): void {
  context.events.follow((event) => {
    const { node, how } = (event.details ?? {}) as { node?: string; how?: string };
    const lost = event.kind === "standby-lost" || event.kind === "stream-closed" || event.kind === "primary-silent";
    if (lost && node !== undefined && how !== undefined && how !== "goodbye" && how !== "slow")
      void tell(context, event, node, how);
    else if (event.kind !== "failure-told" && isOfDisk(event)) add(context, event, event.node, "disk");
  }, signal);
}

function isOfDisk({ message, details }: AgentEvent): boolean {
  const text = `${message} ${JSON.stringify(details ?? {})}`;
  return /\b(ENOSPC|EIO|EROFS|EDQUOT)\b|disk-full/.test(text);
}

async function tell(context: AgentContext, event: AgentEvent, node: string, how: string): Promise<void> {
  try {
    const failure = failureKind(await evidence(context, event, node, how));
    if (failure !== undefined) add(context, event, node, failure);
  } catch (error) {
    context.log.warn({ node, failure: toFailure(error) }, "what failed could not be found out");
  }
}

async function evidence(
  context: AgentContext,
  { kind, application }: AgentEvent,
  node: string,
  how: string,
): Promise<Evidence> {
  const instance = await instanceOn(context, node, application);
  const overtaken = kind === "standby-lost" && (await isOvertaken(context, application));
  if (instance) return { how, instance, reachedByOthers: [], overtaken };
  const others = (await context.records.nodes()).map(({ name }) => name);
  const asked = others.filter((name) => name !== node && name !== context.node);
  const answers = await Promise.all(asked.map((name) => reaches(context, name, node)));
  return { how, reachedByOthers: answers.filter((answer) => answer !== undefined), overtaken };
}

async function isOvertaken(context: AgentContext, application = ""): Promise<boolean> {
  // Without the store no term is over.
  const record = await context.records.application(application).catch(() => undefined);
  return record?.view !== undefined && record.view.value.primary !== context.node;
}

type InstanceSeen = NonNullable<Evidence["instance"]>;

/** Undefined: the agent does not answer. */
async function instanceOn(context: AgentContext, node: string, application = ""): Promise<InstanceSeen | undefined> {
  try {
    const peer = await context.peers.client(node);
    const path = `/v1/internal/instances/${application}`;
    return await peer.json<InstanceSeen>("GET", path, { timeoutMs: ANSWER_MS + limits.peerHealthTimeoutMs });
  } catch {
    return undefined;
  }
}

/** Asked by another node's agent: whether the instance here is there, and answers. */
export async function instanceHere(context: AgentContext, application: string): Promise<InstanceSeen> {
  const instance = context.instances.get(application);
  if (!instance?.alive) return { there: false, answers: false };
  const answers = await instance.call("status", {}, ANSWER_MS).then(
    () => true,
    () => false,
  );
  return { there: true, answers };
}

/** Asked by another node's agent: whether this one reaches a third. */
export async function reachesFromHere(context: AgentContext, node: string): Promise<{ reached: boolean }> {
  const reached = await context.peers.health(node).then(
    () => true,
    () => false,
  );
  return { reached };
}

/** Whether another node reaches it; undefined when that one does not answer either. */
async function reaches(context: AgentContext, by: string, node: string): Promise<boolean | undefined> {
  const peer = await context.peers.client(by);
  const answer = await peer
    .json<{ reached: boolean }>("GET", `/v1/internal/reach/${node}`, { timeoutMs: 3 * limits.peerHealthTimeoutMs })
    .catch(() => undefined);
  return answer?.reached;
}

function add(context: AgentContext, { application }: AgentEvent, node: string, failure: FailureKind): void {
  context.events.add({
    kind: "failure-told",
    ...(application !== undefined && { application }),
    message: `"${node}": ${MEANING[failure]}`,
    details: { node, failure },
  });
}
