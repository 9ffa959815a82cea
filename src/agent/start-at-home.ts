/** An application is started by its home's agent, whichever was asked. */
import { fromFailure, OperatingError } from "../kernel/failure.ts";
import type { ApplicationReport, ProtectRequest, StreamLine } from "./api-types.ts";
import type { AgentContext } from "./context.ts";
import { type ProtectOptions, protect } from "./protect.ts";
import { parseProtectRequest } from "./protect-request.ts";

/** @throws OperatingError why it is not protected now; nothing is left of it then */
export async function startAtHome(
  context: AgentContext,
  body: unknown,
  options: ProtectOptions,
): Promise<ApplicationReport> {
  const { home } = parseProtectRequest(context.node, body).spec;
  if (home === context.node) return protect(context, body, options);
  const peer = await context.peers.client(home);
  const request = { body: body as ProtectRequest, signal: options.signal };
  for await (const line of peer.lines<StreamLine<ApplicationReport>>("POST", "/v1/applications", request)) {
    if ("progress" in line) options.progress(line.progress);
    else if ("error" in line) throw fromFailure(line.error);
    else return line.result;
  }
  throw new OperatingError("node-unreachable", `The agent of "${home}" ended before it answered`, {
    remedy: "What was begun is undone when it is back: understudy ps",
    details: { node: home },
  });
}
