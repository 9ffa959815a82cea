/** `understudy apply` and `understudy diff`: applications as files say. */
import type { Command } from "commander";
import type { ApplicationReport, ApplyPlan, ApplyRequest, ApplyResult, StreamLine } from "../agent/api-types.ts";
import type { Application } from "../cluster/application.ts";
import { fromFailure, OperatingError } from "../kernel/failure.ts";
import type { Connection } from "./connect.ts";
import { print, printJson } from "./output.ts";
import { ProtectProgressPrinter } from "./progress.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";

interface DiffOptions extends RemoteOptions {
  file: string;
  exitCode?: boolean;
}

interface ApplyOptions extends RemoteOptions {
  file: string;
  recreate?: boolean;
  wait: boolean;
}

const FILE = "a YAML file with one application or several (docs/app.yaml is the reference); - for standard input";

export function registerApply(program: Command): void {
  remoteCommand(program, "apply", "make applications what a file says: start them, change them while they run")
    .requiredOption("-f, --file <file>", FILE)
    .option("--recreate", "end an application and start it anew where a change takes that")
    .option("--no-wait", "do not wait until the standbys are in sync")
    .action(async (options: ApplyOptions) => {
      const { file, recreate = false, wait } = options;
      const results = await withFile(options, file, (agent, application) =>
        applyOne(agent, { ...application, recreate, wait }),
      );
      if (options.json) return printJson({ applications: results });
      for (const { plan, report } of results) {
        print(
          `"${plan.application}" ${OUTCOMES[plan.action]}: on ${report.primary}, in sync on ${list(report.inSync)}${more(report)}.`,
        );
      }
    });
}

export function registerDiff(program: Command): void {
  remoteCommand(program, "diff", "show what apply would change, and change nothing")
    .requiredOption("-f, --file <file>", FILE)
    .option("--exit-code", "end with 1 when there is a difference")
    .action(async (options: DiffOptions) => {
      const plans = await withFile(options, options.file, (agent, application) =>
        agent.json<ApplyPlan>("POST", `/v1/applications/${application.name}/diff`, { body: application }),
      );
      if (options.json) printJson({ applications: plans });
      else print(plans.map(planText).join("\n"));
      if (options.exitCode && plans.some(({ action }) => action !== "none")) process.exitCode = 1;
    });
}

/** One application after the other: a mistake in the file is found before the first of them. */
async function withFile<T>(
  options: RemoteOptions,
  file: string,
  work: (agent: Connection, application: Application) => Promise<T>,
): Promise<T[]> {
  const { readApplications } = await import("./application-file.ts");
  const applications = await readApplications(file);
  return withAgent(options, async (agent) => {
    const results: T[] = [];
    for (const application of applications) results.push(await work(agent, application));
    return results;
  });
}

/** An interrupt undoes a start, as with protect. A change that has been written stays. */
async function applyOne(agent: Connection, request: ApplyRequest): Promise<ApplyResult> {
  const progress = new ProtectProgressPrinter();
  try {
    const path = `/v1/applications/${request.name}`;
    for await (const line of agent.lines<StreamLine<ApplyResult>>("PUT", path, { body: request })) {
      if ("progress" in line) progress.show(line.progress);
      else if ("error" in line) throw fromFailure(line.error);
      else return line.result;
    }
    throw new OperatingError("node-unreachable", "The agent ended before it answered", {
      remedy: `See what came of it: understudy status ${request.name}`,
    });
  } finally {
    progress.end();
  }
}

const OUTCOMES: Record<ApplyPlan["action"], string> = {
  none: "is as it shall be",
  create: "is started",
  change: "is changed while it runs",
  recreate: "is started anew",
};

function planText({ application, action, changes }: ApplyPlan): string {
  if (action === "none") return `${application}: no difference`;
  if (action === "create") return `${application}: would be started`;
  const lines = changes.map(({ key, from, to, takes }) => {
    const how = takes === "recreate" ? "   (takes another start: --recreate)" : "";
    return `  ${key}: ${value(from)} → ${value(to)}${how}`;
  });
  return [`${application}:`, ...lines].join("\n");
}

const value = (one: unknown) => (one === undefined ? "(not set)" : typeof one === "string" ? one : JSON.stringify(one));

const more = ({ missing }: ApplicationReport) => (missing > 0 ? `, ${missing} more to come` : "");
const list = (nodes: string[]) => (nodes.length === 0 ? "no node" : nodes.join(", "));
