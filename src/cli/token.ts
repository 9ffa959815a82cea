/** `understudy token`: lets a node in. */
import { type Command, InvalidArgumentError } from "commander";
import type { JoinToken, TokenReport } from "../agent/api-types.ts";
import { print, printJson, say } from "./output.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";
import { table } from "./table.ts";

interface Options extends RemoteOptions {
  ttl?: number;
  reusable?: boolean;
  for?: string;
  list?: boolean;
  remove?: string;
}

const UNITS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };

export function registerToken(program: Command): void {
  remoteCommand(program, "token", "make a token with which a node may join, once, within an hour")
    .option("--ttl <time>", "how long it is good for: 90s, 30m, 12h, 7d", seconds)
    .option("--reusable", "for any number of nodes until then")
    .option("--for <node>", "for this node only, which may be one that is made anew")
    .option("--list", "list those that may still be used")
    .option("--remove <id>", "make one worthless")
    .action(async (options: Options) => {
      if (options.list) return list(options);
      if (options.remove !== undefined) {
        const path = `/v1/tokens/${encodeURIComponent(options.remove)}`;
        await withAgent(options, (agent) => agent.json("DELETE", path));
        return options.json ? printJson({}) : print(`Token ${options.remove} is worth nothing now.`);
      }
      const { ttl, reusable, for: node } = options;
      const body = {
        ...(ttl !== undefined && { ttlSeconds: ttl }),
        ...(reusable !== undefined && { reusable }),
        ...(node !== undefined && { node }),
      };
      const made = await withAgent(options, (agent) => agent.json<JoinToken>("POST", "/v1/tokens", { body }));
      if (options.json) return printJson(made);
      print(made.token);
      say(`On the new node: understudy join TOKEN HOST:PORT, until ${made.expiresAt}. It is not shown again.`);
    });
}

async function list(options: Options): Promise<void> {
  const tokens = await withAgent(options, (agent) => agent.json<TokenReport[]>("GET", "/v1/tokens"));
  if (options.json) return printJson({ tokens });
  const rows = tokens.map(({ id, expiresAt, reusable, node }) => [id, expiresAt, reusable ? "yes" : "no", node ?? ""]);
  print(tokens.length === 0 ? "No tokens." : table(["id", "until", "reusable", "for"], rows));
}

function seconds(value: string): number {
  const [, count, unit = "s"] = /^([1-9]\d*)([smhd])$/.exec(value) ?? [];
  if (count === undefined) throw new InvalidArgumentError("Give a number and s, m, h or d, such as 12h.");
  return Number(count) * UNITS[unit]!;
}
