/** Runs this node's agent in the foreground, from its configuration to its end. */
import { pino } from "pino";
import { toFailure } from "../kernel/failure.ts";
import { startAgent } from "./agent.ts";
import { readConfig } from "./config.ts";
import { notifyServiceManager } from "./notify.ts";

/** Runs until SIGTERM or SIGINT, then returns the exit code. */
export async function runAgent(configPath: string): Promise<number> {
  const log = pino(
    { base: null, level: process.env.UNDERSTUDY_LOG ?? "info" },
    pino.destination({ dest: 2, sync: true }),
  );
  const ended = new Promise<NodeJS.Signals>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, resolve);
  });
  let agent: Awaited<ReturnType<typeof startAgent>>;
  try {
    agent = await startAgent(readConfig(configPath), log);
  } catch (error) {
    const { message, remedy } = toFailure(error);
    process.stderr.write(`understudy agent: ${message}\n${remedy ? `${remedy}\n` : ""}`);
    return 1;
  }
  await notifyServiceManager("READY=1\nSTATUS=Looking after applications");
  log.info({ startMs: Math.round(performance.now()) }, "ready");
  const signal = await ended;
  log.info({ signal }, "ending; applications go on");
  await notifyServiceManager("STOPPING=1");
  await agent.close();
  return 0;
}
