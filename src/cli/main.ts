/** The command line: `understudy COMMAND …`. Exit code 0 done, 1 failed, 2 used wrongly. */
import { Command, CommanderError } from "commander";
import { OperatingError } from "../kernel/failure.ts";
import { registerAgent } from "./agent.ts";
import { registerApply, registerDiff } from "./apply.ts";
import { registerAudit } from "./audit.ts";
import { registerCheck } from "./check.ts";
import { registerCheckpoint, registerCheckpoints } from "./checkpoints.ts";
import { registerBalance, registerDrain } from "./drain.ts";
import { registerEvents } from "./events.ts";
import { registerFiles } from "./files.ts";
import { registerInit } from "./init.ts";
import { registerJoin } from "./join.ts";
import { registerLab } from "./lab.ts";
import { registerNodes } from "./nodes.ts";
import { printFailure } from "./output.ts";
import { registerProtect } from "./protect.ts";
import { registerPs } from "./ps.ts";
import { registerStatus } from "./status.ts";
import { registerStop } from "./stop.ts";
import { registerSwitch } from "./switch.ts";
import { registerToken } from "./token.ts";
import { registerTree } from "./tree.ts";
import { registerUser } from "./user.ts";

const USED_WRONGLY = 2;

export function createProgram(): Command {
  const program = new Command("understudy")
    .description("Keeps an unmodified Linux application going when its machine dies.")
    .version("0.1.0")
    .enablePositionalOptions()
    .exitOverride()
    // What is wrong with the usage is printed in one place, below.
    .configureOutput({ outputError: () => {} });
  registerCheck(program);
  registerProtect(program);
  registerApply(program);
  registerDiff(program);
  registerPs(program);
  registerStatus(program);
  registerTree(program);
  registerFiles(program);
  registerCheckpoints(program);
  registerCheckpoint(program);
  registerSwitch(program);
  registerStop(program);
  registerEvents(program);
  registerNodes(program);
  registerDrain(program);
  registerBalance(program);
  registerInit(program);
  registerToken(program);
  registerJoin(program);
  registerUser(program);
  registerAudit(program);
  registerAgent(program);
  registerLab(program);
  return program;
}

/** @param args without node and script. Returns the exit code; commands may set `process.exitCode` themselves. */
export async function main(args: string[]): Promise<number> {
  // After `--` stand the words of another program.
  const end = args.indexOf("--");
  const json = args.slice(0, end < 0 ? args.length : end).includes("--json");
  try {
    await createProgram().parseAsync(args, { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError) return usage(error, json);
    printFailure(error, json);
    return error instanceof OperatingError && error.code === "usage" ? USED_WRONGLY : 1;
  }
}

function usage(error: CommanderError, json: boolean): number {
  if (error.exitCode === 0) return 0;
  // Commander has shown the help, for there was no command.
  if (error.code === "commander.help") return USED_WRONGLY;
  const [message = "", ...suggestion] = error.message.replace(/^error: /, "").split("\n");
  const remedy = suggestion.join(" ").replace(/^\((.*)\)$/, "$1") || "See: understudy --help";
  printFailure(new OperatingError("usage", message.charAt(0).toUpperCase() + message.slice(1), { remedy }), json);
  return USED_WRONGLY;
}

if (import.meta.main) {
  // A reader that has seen enough (head, less) is no failure.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    throw error;
  });
  process.exitCode = await main(process.argv.slice(2));
}
