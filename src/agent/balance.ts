/** Shares the load: plans by what the nodes measure, and moves applications to their standbys, one after the other. */
import { type Move, planBalance } from "../cluster/balance.ts";
import { toFailure } from "../kernel/failure.ts";
import type { BalanceResult, DrainProgress } from "./api-types.ts";
import type { AgentContext } from "./context.ts";
import { switchPlanned } from "./operations.ts";
import { takePicture } from "./picture.ts";
import { atPrimary } from "./route.ts";

const SWITCH_TIMEOUT_MS = 60_000;

export interface BalanceOptions {
  dryRun: boolean;
  progress: (progress: DrainProgress) => void;
  /** No move is begun after it aborts. */
  signal: AbortSignal;
}

export async function balance(
  context: AgentContext,
  { dryRun, progress, signal }: BalanceOptions,
): Promise<BalanceResult> {
  const plan = planBalance(await takePicture(context));
  return { plan, done: dryRun ? [] : await makeMoves(context, plan, { progress, signal }) };
}

/** Those that were made: one that fails does not hinder the others. */
export async function makeMoves(
  context: AgentContext,
  plan: readonly Move[],
  { progress, signal }: Omit<BalanceOptions, "dryRun">,
): Promise<Move[]> {
  const done: Move[] = [];
  for (const move of plan) {
    if (signal.aborted) break;
    const { application: name, to } = move;
    progress({ step: "switching", application: name, message: `Moving "${name}" from "${move.from}" to "${to}"` });
    try {
      const question = { application: name, method: "POST", path: `/v1/applications/${name}/switch`, body: { to } };
      await atPrimary(context, { ...question, forwarded: false, timeoutMs: SWITCH_TIMEOUT_MS }, () =>
        switchPlanned(context, name, { to }),
      );
      done.push(move);
    } catch (error) {
      progress({ step: "failed", application: name, message: `"${name}" did not move: ${toFailure(error).message}` });
    }
  }
  return done;
}
