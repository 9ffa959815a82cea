/** Makes applications what they shall be: started, changed while they run, or (only when told so) started anew. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Application, applicationSchema } from "../cluster/application.ts";
import { type ApplyPlan, planOf } from "../cluster/plan.ts";
import type { ApplicationSpec } from "../cluster/spec.ts";
import { storeKeys } from "../cluster/store.ts";
import { OperatingError } from "../kernel/failure.ts";
import type { ApplicationReport, ApplyResult } from "./api-types.ts";
import type { AgentContext } from "./context.ts";
import { limits } from "./limits.ts";
import { stop } from "./operations.ts";
import type { ProtectOptions } from "./protect.ts";
import {
  applyRequestSchema,
  checkAddressFree,
  checkProgram,
  checkRequest,
  checkStandbys,
  specOf,
} from "./protect-request.ts";
import { reportAnywhere } from "./report.ts";
import { atPrimary } from "./route.ts";
import { startAtHome } from "./start-at-home.ts";

const POLL_MS = 100;

/** What `apply` would do; nothing is changed. @throws OperatingError `request-invalid` */
export async function diff(context: AgentContext, body: unknown): Promise<ApplyPlan> {
  const application = checkRequest(applicationSchema, body);
  const is = await running(context, application.name);
  return planOf(is, wished(application, is, context.node));
}

/** @throws OperatingError `request-invalid`, `needs-recreate`, or why the application could not be started or changed */
export async function apply(context: AgentContext, body: unknown, options: ProtectOptions): Promise<ApplyResult> {
  const { recreate, wait, ...application } = checkRequest(applyRequestSchema, body);
  const { name } = application;
  const is = await running(context, name);
  const shall = wished(application, is, context.node);
  const plan = planOf(is, shall);
  const home = shall.home;
  const start = () => startAtHome(context, { ...application, home, wait }, options);
  if (is === undefined) return { plan, report: await start() };
  await checkChange(context, plan, shall);
  if (plan.action !== "recreate") return { plan, report: await changeLive(context, is, shall, wait, options) };
  if (!recreate) throw needsRecreate(plan);
  // What can be known to be wrong is found before the application that runs has ended.
  if (home === context.node) checkProgram(shall);
  options.progress({ step: "stopping", message: `Ending "${name}" as it is` });
  const question = { application: name, method: "DELETE", path: `/v1/applications/${name}`, forwarded: false };
  await atPrimary(context, { ...question, timeoutMs: 2 * limits.stopTimeoutMs + limits.peerTimeoutMs }, () =>
    stop(context, name),
  );
  return { plan, report: await start() };
}

/** The specification of an application that has not ended. */
async function running(context: AgentContext, name: string): Promise<ApplicationSpec | undefined> {
  const { spec, view } = await context.records.application(name);
  return view?.value.ended ? undefined : spec?.value;
}

/** As it would stand in the store. Without a wish about it the home stays where it is. */
function wished(application: Application, is: ApplicationSpec | undefined, node: string): ApplicationSpec {
  return specOf(application, application.home ?? is?.home ?? node, is?.createdAt ?? "");
}

async function checkChange(context: AgentContext, plan: ApplyPlan, shall: ApplicationSpec): Promise<void> {
  const changed = new Set<string>(plan.changes.map(({ key }) => key));
  const ofStandbys = ["standby", "placement", "home", "minInSync"];
  if (ofStandbys.some((key) => changed.has(key))) await checkStandbys(context, shall);
  if (changed.has("address")) await checkAddressFree(context, shall);
}

function needsRecreate({ application, changes }: ApplyPlan): OperatingError {
  const keys = changes.filter(({ takes }) => takes === "recreate").map(({ key }) => key);
  const what = keys.map((key) => `"${key}"`).join(", ");
  return new OperatingError("needs-recreate", `"${application}" must start anew for another value of ${what}`, {
    remedy:
      "Nothing is changed. With --recreate it is ended, with all that it has in memory, and started as it shall be.",
    details: { application, keys },
  });
}

/** Writes the specification and waits until the application goes by it. */
async function changeLive(
  context: AgentContext,
  is: ApplicationSpec,
  shall: ApplicationSpec,
  wait: boolean,
  options: ProtectOptions,
): Promise<ApplicationReport> {
  const { name } = is;
  const key = storeKeys.specification(name);
  const plan = planOf(is, shall);
  const stored = await context.records.known(name);
  let { revision } = stored.spec;
  if (plan.action !== "none") {
    // Between the look that the plan was made by and this one nothing may have changed.
    const same = planOf(stored.spec.value, is).action === "none" && stored.spec.value.createdAt === is.createdAt;
    const swap = same ? await context.store.compareAndSwap(key, revision, shall) : undefined;
    if (!swap?.ok) throw contended(name);
    revision = swap.revision;
    const what = plan.changes.map((change) => change.key).join(", ");
    context.events.add({
      kind: "application-changed",
      application: name,
      message: `"${name}" is changed while it runs: ${what}`,
      details: { changes: plan.changes },
    });
    context.wake();
  }
  return untilFollowed(context, name, revision, wait, options);
}

function contended(name: string): OperatingError {
  return new OperatingError("changed-meanwhile", `"${name}" was changed by somebody else at the same time`, {
    remedy: `Look what it is now, and try again: understudy diff -f FILE`,
    details: { application: name },
  });
}

/** The primary's instance and its agent go by the specification of this revision, and (with `wait`) as many are in sync as it wants. */
async function untilFollowed(
  context: AgentContext,
  name: string,
  revision: number,
  wait: boolean,
  { progress, signal }: ProtectOptions,
): Promise<ApplicationReport> {
  const told = new Set<string>();
  let seen = "";
  let changedMs = performance.now();
  for (;;) {
    signal.throwIfAborted();
    const report = await reportAnywhere(context, name);
    const follows = (report.instance?.specification ?? 0) >= revision && report.placed >= revision;
    const waiting = report.wanted.filter((node) => !report.inSync.includes(node));
    for (const node of report.wanted) {
      if (waiting.includes(node) && !told.has(node)) {
        told.add(node);
        progress({ step: "clone", node, message: `Bringing "${node}" in sync` });
      }
    }
    if ((follows && (!wait || waiting.length + report.missing === 0)) || report.ended) return report;
    // Those that there are nodes for are in sync: there is nothing more to wait for now.
    if (follows && waiting.length === 0) throw stalled(report, follows, waiting);
    const now = JSON.stringify([report.primary, report.inSync, report.standbys.map((one) => one.remainingBytes)]);
    if (now !== seen) changedMs = performance.now();
    seen = now;
    if (performance.now() - changedMs > limits.synchronisationStallMs) throw stalled(report, follows, waiting);
    await sleep(POLL_MS);
  }
}

function stalled({ name, problems, missing }: ApplicationReport, follows: boolean, waiting: string[]): OperatingError {
  const why = problems.map(({ failure }) => ` ${failure.message}.`).join("");
  const lacking = missing > 0 ? `there is no node for ${missing} of its clones` : undefined;
  const late = waiting.length > 0 ? `${waiting.join(", ")} does not come in sync` : undefined;
  const what = follows ? [late, lacking].filter(Boolean).join(", and ") : "its instance does not answer";
  return new OperatingError("not-followed-yet", `"${name}" is changed, but ${what}.${why}`, {
    remedy: `It is tried on by itself; see: understudy status ${name}`,
    details: { application: name },
  });
}
