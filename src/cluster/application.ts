/**
 * The application as its owner wishes it: every key of `app.yaml`, of `understudy protect` and of the API's requests.
 * `describe` says what is allowed; it stands in the messages about mistakes. docs/app.yaml is the commented reference.
 *
 * A new key is: its line in the schema, its default in `applicationDefaults` (spec.ts) if it has one, what changing it takes in
 * `keyChanges`, and its paragraph in docs/app.yaml; tests hold the four together.
 */
import { isIPv4 } from "node:net";
import { z } from "zod";
import { applicationDefaults as defaults } from "./spec.ts";

/** Names of applications: they become parts of socket paths, cgroups and host names. */
export const applicationPattern = /^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$/;

const nodeName = z.string().min(1);
const labels = z.record(z.string(), z.string()).describe("labels with their values, all texts");

/** Absolute, without "..", "." or empty names, and not the root itself. */
const place = z.string().refine((path) => /^(\/[^/\0]+)+$/.test(path) && !/\/\.\.?(\/|$)/.test(path));

/** Of the application's files: a real directory of each node in its view, or scratch space that no standby gets. */
const volume = z
  .strictObject({ path: place, directory: place.exactOptional(), scratch: z.literal(true).exactOptional() })
  .refine(({ directory, scratch }) => (directory === undefined) !== (scratch === undefined))
  .refine(({ path }) => !/^\/(proc|sys|dev)(\/|$)/.test(path));

export type Volume = z.output<typeof volume>;

/** A smaller one has hardly room beside its journal; ext4 with blocks of 4 KiB ends there. */
const LEAST_DISK = 64 * 2 ** 20;
const MOST_DISK = 16 * 2 ** 40;

/** As in `10G`: powers of 1024, as disks of virtual machines are measured. NaN for what is no size. */
export function diskBytes(text: string): number {
  const [, digits, unit = ""] = /^(\d+(?:\.\d+)?)([kMGT]?)$/.exec(text) ?? [];
  return Math.floor(Number(digits) * 1024 ** ["", "k", "M", "G", "T"].indexOf(unit));
}

export const applicationSchema = z.strictObject({
  name: z
    .string()
    .regex(applicationPattern)
    // RUN/agent.sock is the agent's own.
    .refine((name) => name !== "agent")
    .describe('lower-case letters, digits and hyphens, at most 31, and not "agent"'),
  /** Program and arguments, as given to execve; the program is looked up in PATH of the application's environment. */
  command: z
    .array(z.string())
    // Later arguments may be empty: redis-server --save "".
    .refine(([program = ""]) => program !== "")
    .describe("a list of texts: a program, then its arguments"),
  environment: z
    .record(z.string().regex(/^[^=\0]+$/), z.string())
    .default(defaults.environment)
    .describe("names with values, all texts (write numbers in quotes)"),
  workingDirectory: z.string().regex(/^\//).default(defaults.workingDirectory).describe("an absolute path"),
  /** Service address with prefix length. */
  address: z.string().refine(isAddress).describe("an IPv4 address with prefix length, such as 10.77.0.10/24"),
  gateway: z.ipv4().exactOptional().describe("an IPv4 address, such as 10.77.0.1"),
  /** Where it is started; that node is a standby once it is not the primary any more. */
  home: nodeName.exactOptional().describe("the name of a node"),
  /** Where clones shall be that `standby` does not name, and what stands in for a node that is away or being emptied. */
  placement: z
    .strictObject({
      /** How many clones there shall be at least. */
      standbys: z.int().min(0).max(16).default(defaults.placement.standbys).describe("a whole number from 0 to 16"),
      /** Labels that a node must have, and labels of which it shall have as many as can be. */
      require: labels.default(defaults.placement.require),
      prefer: labels.default(defaults.placement.prefer),
      avoid: z.array(nodeName).default(defaults.placement.avoid).describe("a list of names of nodes"),
      /** Label whose values are failure domains. */
      spread: z.string().min(1).default(defaults.placement.spread).describe("the name of a label"),
      /** Applications of which no copy shall be on the same node. */
      apart: z.array(z.string()).default(defaults.placement.apart).describe("a list of names of applications"),
      /** Seconds that a node may be away before another stands in for it. */
      replaceAfter: z
        .int()
        .min(1)
        .max(86_400)
        .default(defaults.placement.replaceAfter)
        .describe("seconds from 1 to 86400"),
    })
    .default(defaults.placement)
    .describe("keys as in docs/app.yaml"),
  /** Nodes that shall hold a clone. */
  standby: z.array(nodeName).default(defaults.standby).describe("a list of names of nodes"),
  /** So many standbys shall be in sync at least. */
  minInSync: z.int().min(0).max(100).default(defaults.minInSync).describe("a whole number from 0 to 100"),
  /** With fewer in sync: `continue`: output goes on by what there is. `hold`: it waits until there are as many. */
  onTooFew: z.enum(["continue", "hold"]).default(defaults.onTooFew).describe("continue or hold"),
  /** `checkpoint`: output waits for the standbys' acknowledgement. `none`: output goes out at once (state may be lost). */
  commit: z.enum(["checkpoint", "none"]).default(defaults.commit).describe("checkpoint or none"),
  /** Milliseconds between checkpoints; `auto` adapts. */
  period: z
    .union([z.literal("auto"), z.number().min(1).max(60_000)])
    .default(defaults.period)
    .describe("auto, or milliseconds from 1 to 60000"),
  /** Checkpoints a standby keeps. */
  keep: z.int().min(1).max(1000).default(defaults.keep).describe("a whole number from 1 to 1000"),
  /**
   * What becomes of output when the application has begun to use what cannot be copied, so that no checkpoint can be taken.
   * `hold`: it waits until one can. `warn`: it goes out, as with policy `none`, until one can. Either way the standbys keep the
   * last checkpoint and may take over from it.
   */
  onUnprotectable: z.enum(["hold", "warn"]).default(defaults.onUnprotectable).describe("hold or warn"),
  /** Bytes a second of the first copies to new standbys; 0: as fast as they go. */
  syncLimit: z.int().min(0).default(defaults.syncLimit).describe("0, or bytes per second"),
  /** What becomes of an application that crashes or hangs. */
  restart: z
    .strictObject({
      /** `failure`: its first process, or its last, is ended by a signal that nobody ends a program with on purpose; its probe fails. */
      on: z.enum(["never", "failure"]).default(defaults.restart.on).describe("never or failure"),
      /** What the first restart within `within` seconds goes on from, what the second; then it has ended. */
      steps: z
        .array(z.enum(["newest", "older", "cold"]))
        .min(1)
        .max(100)
        .default(defaults.restart.steps)
        .describe("a list of newest, older and cold"),
      within: z.int().min(1).max(86_400).default(defaults.restart.within).describe("seconds from 1 to 86400"),
    })
    .default(defaults.restart)
    .describe("keys as in docs/app.yaml"),
  /** How the primary's node finds out that the application hangs. */
  health: z
    .strictObject({
      probe: z.enum(["none", "tcp", "http", "exec"]).default(defaults.health.probe).describe("none, tcp, http or exec"),
      port: z.int().min(0).max(65_535).default(defaults.health.port).describe("a port"),
      path: z
        .string()
        .regex(/^\/[\x21-\x7e]*$/)
        .default(defaults.health.path)
        .describe("a path such as /health"),
      command: z
        .array(z.string())
        .default(defaults.health.command)
        .describe("a list of texts: a program, then its arguments"),
      interval: z.number().min(0.1).max(3600).default(defaults.health.interval).describe("seconds from 0.1 to 3600"),
      timeout: z.number().min(0.1).max(600).default(defaults.health.timeout).describe("seconds from 0.1 to 600"),
      failures: z.int().min(1).max(100).default(defaults.health.failures).describe("a whole number from 1 to 100"),
      grace: z.number().min(0).max(86_400).default(defaults.health.grace).describe("seconds from 0 to 86400"),
    })
    .refine(({ probe, port }) => (probe !== "tcp" && probe !== "http") || port > 0)
    .refine(({ probe, command: [program = ""] }) => probe !== "exec" || program !== "")
    .default(defaults.health)
    .describe("a probe with what it needs: tcp and http a port, exec a command"),
  /** `auto`: it is moved to one of its standbys when its node is much fuller than others, without being asked. */
  balance: z.enum(["manual", "auto"]).default(defaults.balance).describe("manual or auto"),
  /** Paths of the application's files that are not kept in its layer over the node's. */
  volumes: z
    .array(volume)
    .refine(areApart)
    .default(defaults.volumes)
    .describe(
      "a list of {path, directory} or {path, scratch: true}; absolute paths outside /proc, /sys and /dev, none in another",
    ),
  /** A standby's disk has a checkpoint before it is acknowledged. */
  durable: z.boolean().default(defaults.durable).describe("true or false"),
  /** Bytes of a file system of its own for its layer; 0: the layer lies on the node's. */
  disk: z
    .union([z.int(), z.string().transform(diskBytes)])
    .refine((bytes) => bytes === 0 || (bytes >= LEAST_DISK && bytes <= MOST_DISK))
    .default(defaults.disk)
    .describe("0, or a size from 64M to 16T, such as 10G"),
});

/** All defaults filled in. */
export type Application = z.output<typeof applicationSchema>;
export type ApplicationInput = z.input<typeof applicationSchema>;
export type ApplicationKey = keyof Application;

/** `live`: `understudy apply` changes it while the application runs. `recreate`: only with another start of the program. */
export const keyChanges = {
  name: "recreate",
  command: "recreate",
  environment: "recreate",
  workingDirectory: "recreate",
  address: "recreate",
  gateway: "recreate",
  home: "live",
  standby: "live",
  placement: "live",
  minInSync: "live",
  onTooFew: "live",
  commit: "live",
  period: "live",
  keep: "live",
  onUnprotectable: "live",
  syncLimit: "live",
  restart: "live",
  health: "live",
  balance: "live",
  volumes: "recreate",
  durable: "recreate",
  disk: "recreate",
} as const satisfies Record<ApplicationKey, "live" | "recreate">;

/** No path is another or lies in it, neither in the application's view nor on the node. */
function areApart(volumes: Volume[]): boolean {
  const apart = (paths: string[]) =>
    paths.every((path, i) => paths.every((other, j) => i === j || (path !== other && !path.startsWith(`${other}/`))));
  return apart(volumes.map(({ path }) => path)) && apart(volumes.flatMap(({ directory }) => directory ?? []));
}

function isAddress(address: string): boolean {
  const [host = "", length = "", more] = address.split("/");
  const bits = Number(length);
  return more === undefined && isIPv4(host) && /^\d{1,2}$/.test(length) && bits >= 1 && bits <= 32;
}
