/** `understudy agent`: this node's agent, in the foreground. */
import type { Command } from "commander";

export function registerAgent(program: Command): void {
  program
    .command("agent")
    .description("run this node's agent in the foreground (systemd: Type=notify)")
    .option("--config <file>", "its configuration", "/etc/understudy/agent.yaml")
    .action(async ({ config }: { config: string }) => {
      const { runAgent } = await import("../agent/run.ts");
      process.exitCode = await runAgent(config);
      process.exit();
    });
}
