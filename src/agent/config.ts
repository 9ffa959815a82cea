/** The agent's configuration: a YAML file, checked as a whole before anything starts. */
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { z } from "zod";
import { parseYaml } from "../cluster/yaml.ts";
import { OperatingError } from "../kernel/failure.ts";
import { limits } from "./limits.ts";

const absolutePath = z.string().regex(/^\//, "must be an absolute path");
const name = z.string().regex(limits.namePattern, "must be lower-case letters, digits and hyphens, at most 63");

const schema = z.strictObject({
  /** This node's name: the common name of its certificate. */
  name,
  listen: z.strictObject({
    /** The address under which the other nodes reach this one. */
    host: z.string().refine((host) => isIP(host) !== 0, "must be an IP address"),
    port: z.int().min(1).max(65535).default(7700),
  }),
  /** Bridge to which the applications' interfaces are attached. */
  bridge: z.string().min(1).max(15).default("br0"),
  store: z.string().regex(/^[a-z]+:/, 'must be a URL such as "sqlite:/var/lib/understudy/store.db"'),
  tls: z.strictObject({ ca: absolutePath, certificate: absolutePath, key: absolutePath }),
  /** Directory of the cluster's authority, on nodes that have its key. */
  authority: absolutePath.optional(),
  /** How long certificates are valid that are signed here. */
  certificateSeconds: z
    .int()
    .min(1)
    .default(365 * 86_400),
  /** Groups of this machine whose members may use the unix socket. root may always, and without groups nobody else. */
  access: z
    .strictObject({ viewer: z.string().optional(), operator: z.string().optional(), admin: z.string().optional() })
    .default({}),
  stateDirectory: absolutePath.default("/var/lib/understudy"),
  runDirectory: absolutePath.default("/run/understudy"),
  /** cgroup2 directory given to this node; without it the agent's own cgroup (systemd: `Delegate=yes`). */
  cgroup: absolutePath.optional(),
  labels: z.record(z.string(), z.string()).default({}),
  /** What placement and balance may count on, where that is not all of the machine: cores, bytes, bytes per second. */
  capacity: z
    .strictObject({
      cpu: z.number().positive().optional(),
      memory: z.number().positive().optional(),
      network: z.number().positive().optional(),
    })
    .default({}),
  /** For tests: another program in the place of `src/instance/main.ts`. */
  instanceProgram: absolutePath.default(new URL("../instance/main.ts", import.meta.url).pathname),
});

export type AgentConfig = z.output<typeof schema>;

/** @throws OperatingError `config-unreadable`, or `config-invalid` that names file, line and value of every mistake. */
export function readConfig(path: string): AgentConfig {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new OperatingError("config-unreadable", `Cannot read the configuration "${path}"`, {
      remedy: "Name the file with --config, and run the agent as root.",
      cause,
    });
  }
  return parseConfig(text, path);
}

export function parseConfig(text: string, path: string): AgentConfig {
  const result = parseYaml(text.trim() === "" ? "{}" : text, path, schema);
  if ("documents" in result && result.documents.length === 1) return result.documents[0]!;
  const mistakes = "mistakes" in result ? result.mistakes : [`${path}:1: one document is expected`];
  throw new OperatingError("config-invalid", mistakes.join("\n"), { remedy: "Correct the file and start again." });
}
