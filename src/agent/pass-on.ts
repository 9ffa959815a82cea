/** Requests that another node's agent answers, passed on whole. */
import { Readable } from "node:stream";
import type { Context } from "hono";
import type { AgentContext } from "./context.ts";
import { jsonBody } from "./json-body.ts";

/** Asks the agent to pass the request on to another node's agent. */
export const nodeHeader = "understudy-node";

const TIMEOUT_MS = 60_000;

/** The answer as it comes; `headers` go with the question. */
export async function passOn(
  context: AgentContext,
  c: Context,
  node: string,
  headers: Record<string, string> = {},
): Promise<Response> {
  const { pathname, search } = new URL(c.req.url);
  const peer = await context.peers.client(node);
  const body = c.req.method === "GET" ? undefined : await jsonBody(c);
  const accept = c.req.header("accept");
  const answer = await peer.send(c.req.method, pathname + search, {
    ...(body !== undefined && { body }),
    headers: { ...headers, ...(accept !== undefined && { accept }) },
    timeoutMs: TIMEOUT_MS,
    signal: c.req.raw.signal,
  });
  return new Response(Readable.toWeb(answer) as ReadableStream, {
    status: answer.statusCode ?? 502,
    headers: { "content-type": answer.headers["content-type"] ?? "application/json" },
  });
}
