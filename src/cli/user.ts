/** `understudy user`: who may use the API from elsewhere. */
import { type Command, Option } from "commander";
import type { NewUser, UserReport } from "../agent/api-types.ts";
import { print, printJson, say } from "./output.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";
import { table } from "./table.ts";

interface AddOptions extends RemoteOptions {
  role: string;
  until?: string;
}

export function registerUser(program: Command): void {
  const user = program.command("user").description("users of the API: viewers look, operators move, admins decide");
  remoteCommand(user, "add <name>", "let a user in, or give one another role; prints the token")
    .addOption(
      new Option("--role <role>", "what it may").choices(["viewer", "operator", "admin"]).makeOptionMandatory(),
    )
    .option("--until <time>", "when its token ends, such as 2027-01-31T12:00:00Z (default: never)")
    .action(async (name: string, options: AddOptions) => {
      const { role, until } = options;
      const body = { name, role, ...(until !== undefined && { expiresAt: until }) };
      const made = await withAgent(options, (agent) => agent.json<NewUser>("POST", "/v1/users", { body }));
      if (options.json) return printJson(made);
      print(made.token);
      say("Use it with UNDERSTUDY_TOKEN, UNDERSTUDY_CA (the cluster's ca.crt) and --node https://HOST:PORT.");
      say("It is not shown again.");
    });
  remoteCommand(user, "list", "list users").action(async (options: RemoteOptions) => {
    const users = await withAgent(options, (agent) => agent.json<UserReport[]>("GET", "/v1/users"));
    if (options.json) return printJson({ users });
    const rows = users.map(({ name, role, createdAt, expiresAt }) => [name, role, createdAt, expiresAt ?? "never"]);
    print(users.length === 0 ? "No users." : table(["user", "role", "since", "ends"], rows));
  });
  remoteCommand(user, "remove <name>", "let a user in no more").action(async (name: string, options: RemoteOptions) => {
    await withAgent(options, (agent) => agent.json("DELETE", `/v1/users/${encodeURIComponent(name)}`));
    if (options.json) return printJson({});
    print(`"${name}" is let in no more.`);
  });
}
