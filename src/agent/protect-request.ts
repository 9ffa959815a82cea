/** Everything about a request to protect that can be known before anything is changed. */
import { accessSync, constants, statSync } from "node:fs";
import { isIPv4 } from "node:net";
import { networkInterfaces } from "node:os";
import { isAbsolute, join } from "node:path";
import { z } from "zod";
import type { ApplicationSpec } from "../cluster/spec.ts";
import { OperatingError } from "../kernel/failure.ts";
import { addressAnswers } from "./address-probe.ts";
import type { ProtectRequest } from "./api-types.ts";
import type { AgentContext } from "./context.ts";
import { limits } from "./limits.ts";

export const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const schema = z.strictObject({
  name: z
    .string()
    .regex(limits.applicationPattern, "must be lower-case letters, digits and hyphens, at most 31")
    // RUN/agent.sock is the agent's own.
    .refine((name) => name !== "agent", 'must not be "agent"'),
  // Later arguments may be empty: redis-server --save "".
  command: z.array(z.string()).refine(([program = ""]) => program !== "", "must name a program"),
  environment: z.record(z.string().regex(/^[^=\0]+$/), z.string()).default({}),
  workingDirectory: z.string().regex(/^\//, "must be an absolute path").default("/"),
  address: z.string(),
  gateway: z.ipv4().optional(),
  standby: z.array(z.string()).default([]),
  commit: z.enum(["checkpoint", "none"]).default("checkpoint"),
  period: z.union([z.literal("auto"), z.number().min(1).max(60_000)]).default("auto"),
  keep: z.int().min(1).max(1000).default(3),
  onUnprotectable: z.enum(["hold", "warn"]).default("hold"),
  wait: z.boolean().default(true),
});

/** @throws OperatingError `request-invalid`, `address-invalid` */
export function parseProtectRequest(home: string, body: unknown): { spec: ApplicationSpec; wait: boolean } {
  const result = schema.safeParse(body);
  if (!result.success) {
    const mistakes = result.error.issues.map((issue) => `${issue.path.join(".") || "request"}: ${issue.message}`);
    throw new OperatingError("request-invalid", mistakes.join("; "), {
      remedy: "See understudy protect --help.",
    });
  }
  const { wait, gateway, environment, ...rest } = result.data satisfies
    | Required<Omit<ProtectRequest, "gateway">>
    | object;
  checkAddress(rest.address);
  const spec: ApplicationSpec = {
    ...rest,
    ...(gateway !== undefined && { gateway }),
    environment: { PATH: defaultPath, HOME: "/root", LANG: "C.UTF-8", ...environment },
    standby: [...new Set(rest.standby)],
    home,
    createdAt: new Date().toISOString(),
  };
  return { spec, wait };
}

/** Checks the request against this node and the cluster; fails with the first thing that is wrong. */
export async function checkProtectable(context: AgentContext, spec: ApplicationSpec): Promise<void> {
  if (spec.standby.includes(context.node)) {
    throw new OperatingError(
      "standby-is-primary",
      `"${context.node}" runs "${spec.name}" itself and cannot be its standby`,
      {
        remedy: "Choose another node: understudy nodes",
      },
    );
  }
  await checkNotInUse(context, spec);
  checkProgram(spec);
  // Asks each standby; one that does not answer now cannot become in sync.
  await Promise.all(spec.standby.map((node) => context.peers.health(node)));
  if (await addressAnswers(hostOf(spec.address), context.config.bridge)) {
    throw new OperatingError("address-in-use", `Something on the network answers under ${hostOf(spec.address)}`, {
      remedy: "Choose an address that nothing uses.",
      details: { address: spec.address },
    });
  }
}

async function checkNotInUse(context: AgentContext, spec: ApplicationSpec): Promise<void> {
  const host = hostOf(spec.address);
  for (const { name, spec: other, view } of (await context.records.applications()).values()) {
    if (!other || view?.value.ended) continue;
    if (name === spec.name) throw nameInUse(name);
    if (hostOf(other.value.address) === host) {
      throw new OperatingError("address-in-use", `The application "${name}" has the address ${host}`, {
        remedy: "Choose an address that nothing uses.",
        details: { address: spec.address, application: name },
      });
    }
  }
  const own = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === host));
  const node = (await context.records.nodes()).find(({ api }) => new URL(api).hostname === host);
  if (own || node) {
    throw new OperatingError("address-in-use", `${host} is the address of the node "${node?.name ?? context.node}"`, {
      remedy: "Choose an address for the application alone.",
      details: { address: spec.address },
    });
  }
}

export function nameInUse(name: string): OperatingError {
  return new OperatingError("name-in-use", `There is an application "${name}" already`, {
    remedy: `Choose another name, or end that one: understudy stop ${name}`,
    details: { application: name },
  });
}

/** @throws OperatingError `program-not-found`, `program-not-executable`, `directory-not-found` */
export function checkProgram(spec: Pick<ApplicationSpec, "command" | "environment" | "workingDirectory">): string {
  const { command, workingDirectory, environment } = spec;
  const program = command[0]!;
  if (!isDirectory(workingDirectory)) {
    throw new OperatingError("directory-not-found", `There is no working directory "${workingDirectory}" on this node`);
  }
  const path = environment.PATH ?? defaultPath;
  const directories = path
    .split(":")
    .map((directory) => (isAbsolute(directory) ? directory : join(workingDirectory, directory)));
  const candidates = program.includes("/")
    ? [isAbsolute(program) ? program : join(workingDirectory, program)]
    : directories.map((directory) => join(directory, program));
  const files = candidates.filter(isFile);
  const found = files.find(isExecutable);
  if (found) return found;
  if (files[0]) {
    throw new OperatingError("program-not-executable", `The program "${files[0]}" is not executable`, {
      remedy: `Make it so: chmod +x ${files[0]}`,
    });
  }
  throw new OperatingError("program-not-found", `The program "${program}" is not on this node`, {
    remedy: program.includes("/") ? "Check the path." : `Install it, or give its path; searched: ${path}`,
    details: { program },
  });
}

export function hostOf(address: string): string {
  return address.split("/")[0]!;
}

function checkAddress(address: string): void {
  const [host, length, more] = address.split("/");
  const bits = Number(length);
  if (more === undefined && isIPv4(host!) && /^\d{1,2}$/.test(length ?? "") && bits >= 1 && bits <= 32) return;
  throw new OperatingError("address-invalid", `"${address}" is not an address with prefix length`, {
    remedy: "Write it like 10.77.0.10/24.",
    details: { address },
  });
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** For root, access(2) says yes as soon as any execute bit is set, as execve(2) does. */
function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
