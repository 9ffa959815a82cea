/** Any agent may be asked anything: questions about an application go to its primary's agent. */
import { setTimeout as sleep } from "node:timers/promises";
import { OperatingError } from "../kernel/failure.ts";
import type { AgentContext } from "./context.ts";
import { limits } from "./limits.ts";

/** Marks a question that another agent has passed on; it is answered here or not at all. */
export const forwardedHeader = "understudy-forwarded";

/** A view that changes while the question is on its way is followed for so long. */
const FOLLOW_MS = 5_000;
const FOLLOW_POLL_MS = 100;

export interface Question {
  application: string;
  method: string;
  path: string;
  body?: unknown;
  forwarded: boolean;
  timeoutMs?: number;
}

/**
 * Answers with `here` when this node is the primary (or the application has ended), else with what the primary's agent says.
 * @throws OperatingError `primary-unreachable`
 */
export async function atPrimary<T>(context: AgentContext, question: Question, here: () => Promise<T>): Promise<T> {
  if (question.forwarded) return here();
  const deadline = performance.now() + FOLLOW_MS;
  for (;;) {
    const { view } = await context.records.known(question.application);
    const primary = view?.value.primary ?? context.node;
    try {
      if (primary === context.node || view?.value.ended) return await here();
      return await ask<T>(context, primary, question);
    } catch (error) {
      const moved = error instanceof OperatingError && error.code === "not-primary";
      if (!moved || performance.now() > deadline) throw error;
    }
    await sleep(FOLLOW_POLL_MS);
  }
}

async function ask<T>(context: AgentContext, primary: string, question: Question): Promise<T> {
  const { application, method, path, body, timeoutMs = limits.peerTimeoutMs } = question;
  const peer = await context.peers.client(primary);
  try {
    const asked = { ...(body !== undefined && { body }), timeoutMs, headers: { [forwardedHeader]: context.node } };
    // What may take long is not waited for when nobody is there to do it any more.
    if (timeoutMs <= limits.peerTimeoutMs) return await peer.json<T>(method, path, asked);
    return await context.peers.whileHealthy(primary, (signal) => peer.json<T>(method, path, { ...asked, signal }));
  } catch (cause) {
    if (!(cause instanceof OperatingError) || cause.code !== "node-unreachable") throw cause;
    throw new OperatingError(
      "primary-unreachable",
      `The agent of "${primary}", where "${application}" runs, does not answer`,
      {
        remedy: "Wait for a standby to take over, or repeat with --force if you know that the node is down.",
        details: { application, node: primary },
        cause,
      },
    );
  }
}
