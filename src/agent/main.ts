/** `node src/agent/main.ts --config FILE`: this node's agent in the foreground (systemd: Type=notify). */
import { enableCompileCache } from "node:module";
import { parseArgs } from "node:util";

const defaultConfig = "/etc/understudy/agent.yaml";

// A node is without its agent for as long as this takes: what has been compiled once is kept.
enableCompileCache(new URL("../../build/compile-cache", import.meta.url).pathname);
const { values } = parseArgs({ options: { config: { type: "string", default: defaultConfig } } });
const { runAgent } = await import("./run.ts");
process.exitCode = await runAgent(values.config);
process.exit();
