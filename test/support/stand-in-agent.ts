/** In an agent's place, for tests of the lab itself: listens where an agent would, and answers with its node's name. */
import { readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { hostname } from "node:os";
import { parse } from "yaml";

const config = parse(readFileSync("/etc/understudy/agent.yaml", "utf8")) as { listen: { host: string; port: number } };
const socket = "/run/understudy/agent.sock";
rmSync(socket, { force: true });
createServer((connection) => connection.end(hostname()))
  .on("error", (error) => {
    throw error;
  })
  .listen(config.listen.port, config.listen.host, () =>
    createServer((connection) => connection.on("error", () => {}).end()).listen(socket),
  );
console.log(`stand-in on ${hostname()}, process ${process.pid}`);
