/** Before every request: who asks, whether they may, and a line in the audit trail for what changes something. */
import type { HttpBindings } from "@hono/node-server";
import type { Context, MiddlewareHandler } from "hono";
import { type Failure, OperatingError, toFailure } from "../kernel/failure.ts";
import { type Caller, identify, onBehalfOf } from "./caller.ts";
import type { AgentContext } from "./context.ts";
import { jsonBody } from "./json-body.ts";
import { answersByLines, whenAnswered } from "./line-stream.ts";
import { roleNeeded } from "./roles.ts";

export function gate(context: AgentContext): MiddlewareHandler {
  return async (c, next) => {
    const { method, path } = c.req;
    let caller: Caller;
    try {
      caller = await identify(context, (c.env as HttpBindings).incoming, path);
    } catch (error) {
      if (error instanceof OperatingError && error.code === "forbidden" && changes(method, path))
        (await begin(context, c, String(error.details?.user)))(error.code);
      throw error;
    }
    // What an agent asks for somebody, or by itself, stands in the trail of the agent that was asked first.
    if (!changes(method, path) || caller.passedOn || roleNeeded(method, path) === "node")
      return onBehalfOf(caller, next);
    const done = await begin(context, c, caller.name);
    whenAnswered(c, done);
    await onBehalfOf(caller, next);
    if (c.error) done(toFailure(c.error).code);
    else if (!answersByLines(c)) done(await resultOf(c));
  };
}

/** Every request that is not a question. */
function changes(method: string, path: string): boolean {
  return method !== "GET" && !/^\/v1\/applications\/[^/]+\/diff$/.test(path);
}

async function begin(context: AgentContext, c: Context, user: string): Promise<(result: string) => void> {
  const node = c.req.header("understudy-node") ?? context.node;
  const { pathname, search } = new URL(c.req.url);
  // A body that is none is refused later; until then it has been asked for all the same.
  const body = c.req.header("content-type")?.includes("json") ? await jsonBody(c).catch(() => undefined) : undefined;
  return context.audit.begin({
    user,
    node,
    request: `${c.req.method} ${pathname}${search}`,
    ...(body !== undefined && { body }),
  });
}

/** Of an answer that another agent gave, too. */
async function resultOf(c: Context): Promise<string> {
  if (c.res.status < 400) return "done";
  const document = (await c.res
    .clone()
    .json()
    .catch(() => undefined)) as { error?: Failure } | undefined;
  return document?.error?.code ?? `HTTP ${c.res.status}`;
}
