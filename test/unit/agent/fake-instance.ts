/**
 * Stands in for src/instance/main.ts in the agent's tests: speaks the control protocol, runs the real command as the
 * application, plays the view's rules with the real store, and "replicates" over a TCP connection that carries only life.
 * `FAKE_SYNC_MS` in the application's environment: how long the first synchronisation takes.
 */
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { openStore } from "../../../src/cluster/open.ts";
import type { View } from "../../../src/cluster/spec.ts";
import { storeKeys } from "../../../src/cluster/store.ts";
import type { InstanceConfig, InstanceStatus, StandbyStatus } from "../../../src/instance/control.ts";
import { readPidFile, startTicks, writePidFile } from "../../../src/instance/pid-file.ts";
import { ControlServer } from "../../../src/instance/server.ts";
import { SpecificationWatch } from "../../../src/instance/specification.ts";
import { OperatingError, toFailure } from "../../../src/kernel/failure.ts";

const config = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as InstanceConfig;
const { name, command, environment } = config.application;
const store = await openStore(config.store);
const syncMs = Number(environment.FAKE_SYNC_MS ?? 50);
const standbys = new Map<string, StandbyStatus & { socket?: Socket }>();
const none = { median: 0, p99: 0, max: 0 };
const figures = {
  checkpoints: 0,
  checkpointsPerSecond: 0,
  stopUs: none,
  commitUs: none,
  pagesPerCheckpoint: 0,
  bytesPerCheckpoint: 0,
  heldPackets: 0,
  residentBytes: 1000,
};
let role: InstanceStatus["role"] = config.begin === "standby" ? "standby" : "primary";
let state = role === "standby" ? "synchronising" : "starting";
let stream: { host: string; port: number } | undefined;
let initPid = 0;

async function view(change: (view: View) => View | undefined): Promise<View> {
  for (;;) {
    const current = await store.get<View>(storeKeys.view(name));
    if (!current) throw new OperatingError("view-gone", "The view is gone");
    const next = change(current.value);
    if (!next) return current.value;
    if ((await store.compareAndSwap(storeKeys.view(name), current.revision, next)).ok) return next;
  }
}

let term = (await view(() => undefined)).term;

function become(newRole: typeof role, newState: string): void {
  role = newRole;
  state = newState;
  server.emit("changed", { role, state, term });
}

function end(code: number): void {
  setTimeout(() => process.exit(code), 20);
}

function startApplication(): void {
  mkdirSync(config.cgroup, { recursive: true });
  const script = 'echo 0 > "$0/cgroup.procs" && exec "$@"';
  const child = spawn("/bin/sh", ["-c", script, config.cgroup, ...command], { stdio: "inherit", detached: true });
  initPid = child.pid!;
  writePidFile(config.runDirectory, name, { initPid, initStartTicks: startTicks(initPid)! });
  child.on("exit", async (status) => {
    const failure = new OperatingError("program-ended", `"${command[0]}" ended with status ${status}`);
    writeFileSync(join(config.stateDirectory, "failure.json"), JSON.stringify(toFailure(failure)));
    await view((v) => ({ ...v, ended: { reason: failure.message, at: new Date().toISOString() } })).catch(() => {});
    end(1);
  });
  become("primary", "running");
}

const specification = new SpecificationWatch(store, config.application, (spec) => {
  config.application = spec;
});

const server = new ControlServer(config.controlSocket, {
  async status() {
    return {
      application: name,
      node: config.node,
      role,
      state,
      term,
      epoch: 0,
      initPid,
      instancePid: process.pid,
      specification: specification.revision,
      ...(stream && { stream }),
      standbys: [...standbys.values()].map(({ socket, ...status }) => status),
      processes: 1,
      threads: 1,
      figures,
    };
  },
  async checkpoint() {
    return { epoch: 1, term, at: new Date().toISOString(), stopUs: 1, pages: 1, bytes: 1 };
  },
  async checkpoints() {
    return [];
  },
  async tree() {
    return { version: 1, application: name, term, epoch: 0, at: new Date().toISOString(), nodes: [], edges: [] };
  },
  async addStandby({ node, host, port }) {
    const socket = connect(port, host);
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    const bytes = { totalBytes: 2000, remainingBytes: 1000, sentBytes: 1000, keptBytes: 0, bytesPerSecond: 1000 };
    const synchronisation = { step: "files", ...bytes, secondsLeft: 1 } as const;
    const status: StandbyStatus & { socket: Socket } = { node, state: "synchronising", synchronisation, socket };
    standbys.set(node, status);
    socket.on("close", async () => {
      await view((v) => ({ ...v, inSync: v.inSync.filter((one) => one !== node) })).catch(() => {});
      status.state = "lost";
    });
    socket.on("error", () => {});
    setTimeout(async () => {
      await view((v) => ({ ...v, inSync: [...v.inSync, node] })).catch(() => {});
      status.state = "in-sync";
      socket.write("in-sync\n");
      become("primary", "protected");
    }, syncMs);
    return {};
  },
  async removeStandby({ node }) {
    standbys.get(node)?.socket?.destroy();
    standbys.delete(node);
    return {};
  },
  async switch({ to }) {
    become("primary", "switching");
    const { socket } = standbys.get(to)!;
    const moved = await view((v) => ({ ...v, term: v.term + 1, primary: to, inSync: [] }));
    socket!.write("live\n");
    return { term: moved.term, primary: to, stopMs: 1 };
  },
  async promote() {
    term = (await view((v) => ({ ...v, term: v.term + 1, primary: config.node, inSync: [] }))).term;
    startApplication();
    return { term };
  },
  async fail() {
    return {};
  },
  async halt() {
    return {};
  },
  async stop() {
    if (role === "primary") {
      await view((v) => (v.ended ? undefined : { ...v, ended: { reason: "stopped", at: new Date().toISOString() } }));
      if (initPid) process.kill(initPid, "SIGKILL");
    }
    end(0);
    return {};
  },
});

if (config.begin === "standby") {
  const listener = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", async (data) => {
      if (String(data).includes("in-sync")) become("standby", "ready");
      if (!String(data).includes("live")) return;
      term = (await view(() => undefined)).term;
      startApplication();
    });
  });
  await new Promise<void>((resolve) => listener.listen(0, config.listenHost, resolve));
  stream = { host: config.listenHost, port: (listener.address() as { port: number }).port };
}
await server.listen();
if (config.begin === "start") startApplication();
if (config.begin === "attach") {
  initPid = readPidFile(config.runDirectory, name)!.initPid;
  await view((v) => ({ ...v, inSync: [] }));
  become("primary", "running");
}
server.emit("note", { at: new Date().toISOString(), kind: "fake", message: `begun as ${config.begin}` });
