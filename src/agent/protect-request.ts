/** Everything about a request to protect that can be known before anything is changed. */
import { accessSync, constants, statSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { isAbsolute, join } from "node:path";
import { z } from "zod";
import { type Application, applicationSchema } from "../cluster/application.ts";
import type { ApplicationSpec } from "../cluster/spec.ts";
import { explain } from "../cluster/yaml.ts";
import { OperatingError } from "../kernel/failure.ts";
import { addressAnswers } from "./address-probe.ts";
import type { AgentContext } from "./context.ts";

export const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Of every application, unless its specification says otherwise. */
const commonEnvironment = { PATH: defaultPath, HOME: "/root", LANG: "C.UTF-8" };

const schema = applicationSchema.extend({ wait: z.boolean().default(true).describe("true or false") });
export const applyRequestSchema = schema.extend({ recreate: z.boolean().default(false).describe("true or false") });

/** @throws OperatingError `request-invalid` */
export function parseProtectRequest(node: string, body: unknown): { spec: ApplicationSpec; wait: boolean } {
  const { wait, ...application } = checkRequest(schema, body);
  return { spec: specOf(application, application.home ?? node, new Date().toISOString()), wait };
}

/** What the store holds for an application that is wished for so. */
export function specOf(application: Application, home: string, createdAt: string): ApplicationSpec {
  return {
    ...application,
    environment: { ...commonEnvironment, ...application.environment },
    standby: [...new Set(application.standby)],
    home,
    createdAt,
  };
}

/** @throws OperatingError `request-invalid` that names every wrong key and what is allowed there */
export function checkRequest<S extends z.ZodType>(requestSchema: S, body: unknown): z.output<S> {
  const result = requestSchema.safeParse(body, { reportInput: true });
  if (result.success) return result.data;
  const mistakes = explain(requestSchema, result.error).map(({ message }) => message);
  throw new OperatingError("request-invalid", mistakes.join("; "), {
    remedy: "Every key is explained in docs/app.yaml.",
  });
}

/** Checks the request against this node and the cluster; fails with the first thing that is wrong. */
export async function checkProtectable(context: AgentContext, spec: ApplicationSpec): Promise<void> {
  await checkStandbys(context, spec);
  await checkNotInUse(context, spec);
  checkProgram(spec);
  // Asks each standby; one that does not answer now cannot become in sync.
  await Promise.all(spec.standby.map((node) => context.peers.health(node)));
  await checkSilent(context, spec);
}

/** @throws OperatingError `standby-is-primary`, `node-unknown` */
export async function checkStandbys(context: AgentContext, spec: ApplicationSpec): Promise<void> {
  if (spec.standby.includes(spec.home)) {
    throw new OperatingError(
      "standby-is-primary",
      `"${spec.home}" runs "${spec.name}" itself and cannot be its standby`,
      {
        remedy: "Choose another node: understudy nodes",
      },
    );
  }
  const count = Math.max(spec.standby.length, spec.placement.standbys);
  if (spec.minInSync > count) {
    throw new OperatingError(
      "too-few-standbys",
      `"${spec.name}" shall have ${spec.minInSync} standbys in sync, but only ${count} are asked for`,
      { remedy: "Name more with --standby, or ask for fewer with --min-in-sync." },
    );
  }
  for (const node of new Set([spec.home, ...spec.standby])) await context.records.node(node);
  const drained = [spec.home, ...spec.standby].find((node) => context.drained.has(node));
  if (drained !== undefined) {
    throw new OperatingError("node-drained", `"${drained}" is being emptied for maintenance`, {
      remedy: `Choose another node, or take it back: understudy undrain ${drained}`,
      details: { node: drained },
    });
  }
}

/** @throws OperatingError `address-in-use` */
export async function checkAddressFree(context: AgentContext, spec: ApplicationSpec): Promise<void> {
  await checkNotInUse(context, spec, spec.name);
  await checkSilent(context, spec);
}

async function checkSilent(context: AgentContext, spec: ApplicationSpec): Promise<void> {
  if (await addressAnswers(hostOf(spec.address), context.config.bridge)) {
    throw new OperatingError("address-in-use", `Something on the network answers under ${hostOf(spec.address)}`, {
      remedy: "Choose an address that nothing uses.",
      details: { address: spec.address },
    });
  }
}

async function checkNotInUse(context: AgentContext, spec: ApplicationSpec, itself?: string): Promise<void> {
  const host = hostOf(spec.address);
  for (const { name, spec: other, view } of (await context.records.applications()).values()) {
    if (!other || view?.value.ended || name === itself) continue;
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
