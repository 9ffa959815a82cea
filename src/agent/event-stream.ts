/** `GET /v1/events`: what happened here, or on all nodes; then, if asked, what happens. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Context } from "hono";
import type { AgentContext } from "./context.ts";
import type { AgentEvent } from "./events.ts";
import { limits } from "./limits.ts";
import { lineStream } from "./line-stream.ts";

const RECONNECT_MS = 1_000;

export async function answerEvents(context: AgentContext, c: Context): Promise<Response> {
  const application = c.req.query("application");
  const cluster = c.req.query("scope") !== "node";
  if (c.req.query("follow") === undefined) {
    const peers = cluster ? await peerEvents(context, application) : [];
    return c.json([...context.events.list(application), ...peers].sort(byTime));
  }
  return lineStream<AgentEvent>(c, async (write, signal) => {
    const wanted = (event: AgentEvent) => {
      if (application === undefined || event.application === application) write(event);
    };
    if (cluster) {
      const nodes = (await context.records.nodes()).filter(({ name }) => name !== context.node);
      for (const event of [...context.events.list(), ...(await peerEvents(context, application))].sort(byTime))
        wanted(event);
      for (const { name } of nodes) void followPeer(context, name, wanted, signal);
    } else if (c.req.query("follow") !== "new") {
      for (const event of context.events.list()) wanted(event);
    }
    context.events.follow(wanted, signal);
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
  });
}

/** Peers that do not answer are left out: their events are theirs to lose. */
async function peerEvents(context: AgentContext, application: string | undefined): Promise<AgentEvent[]> {
  const nodes = (await context.records.nodes()).filter(({ name }) => name !== context.node);
  const query = application === undefined ? "" : `&application=${encodeURIComponent(application)}`;
  const lists = nodes.map(async ({ name }) => {
    try {
      const peer = await context.peers.client(name);
      const timeoutMs = limits.peerHealthTimeoutMs;
      return await peer.json<AgentEvent[]>("GET", `/v1/events?scope=node${query}`, { timeoutMs });
    } catch {
      return [];
    }
  });
  return (await Promise.all(lists)).flat();
}

/** Connects again when the peer was away. */
async function followPeer(context: AgentContext, node: string, tell: (event: AgentEvent) => void, signal: AbortSignal) {
  while (!signal.aborted) {
    try {
      const peer = await context.peers.client(node);
      for await (const event of peer.lines<AgentEvent>("GET", "/v1/events?scope=node&follow=new", { signal }))
        tell(event);
    } catch {
      // Away; the next round finds it or not.
    }
    await sleep(RECONNECT_MS, undefined, { signal }).catch(() => {});
  }
}

function byTime(a: AgentEvent, b: AgentEvent): number {
  if (a.at !== b.at) return a.at < b.at ? -1 : 1;
  return a.sequence - b.sequence;
}
