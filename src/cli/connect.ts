/** Finds the agent that a command asks: `--node`, this machine's agent, or the lab that is up. */
import { readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { AgentClient, type RequestOptions } from "../agent/client.ts";
import { OperatingError } from "../kernel/failure.ts";

const localSocket = "/run/understudy/agent.sock";
const labRoot = "/run/understudy-lab";
const defaultTlsDirectory = "/etc/understudy/tls";

/** A client with what has to be said in every request of this command. */
export class Connection {
  readonly #client: AgentClient;
  readonly #headers: Record<string, string>;

  constructor(client: AgentClient, headers: Record<string, string> = {}) {
    this.#client = client;
    this.#headers = headers;
  }

  json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    // The agent itself bounds what it does; a switch or the end of an application may take its time.
    return this.#client.json<T>(method, path, { timeoutMs: 0, ...options, headers: this.#headers });
  }

  lines<T>(method: string, path: string, options: RequestOptions = {}): AsyncGenerator<T> {
    return this.#client.lines<T>(method, path, { ...options, headers: this.#headers });
  }

  bytes(method: string, path: string, options: RequestOptions = {}): AsyncGenerator<Buffer> {
    return this.#client.bytes(method, path, { ...options, headers: this.#headers });
  }

  close(): void {
    this.#client.close();
  }
}

/**
 * @param node name, `LAB/NAME`, path of a socket, `unix:/path` or `https://host:port`
 * @throws OperatingError `no-agent`, `several-labs`, `node-unknown`
 */
export async function connectAgent(node: string | undefined = process.env.UNDERSTUDY_NODE): Promise<Connection> {
  if (node === undefined || node === "") return new Connection(AgentClient.unix(await anySocket()));
  if (node.startsWith("https://")) return new Connection(await secureClient(node));
  if (node.startsWith("unix:")) return new Connection(AgentClient.unix(node.slice("unix:".length)));
  if (node.startsWith("/")) return new Connection(AgentClient.unix(node));
  if (node.includes("/")) return new Connection(AgentClient.unix(join(labRoot, node, "agent.sock")));
  if (await answers(localSocket)) return new Connection(AgentClient.unix(localSocket), { "understudy-node": node });
  return new Connection(AgentClient.unix(await labSocket(node)));
}

async function anySocket(): Promise<string> {
  if (await answers(localSocket)) return localSocket;
  const labs = await liveLabs();
  if (labs.size > 1) throw severalLabs([...labs.keys()], "node-a");
  const [sockets] = labs.values();
  if (sockets?.[0]) return sockets[0].path;
  throw new OperatingError("no-agent", "No agent runs on this machine", {
    remedy: "Start one with `understudy agent`, or a cluster to try things with `understudy lab up`.",
  });
}

async function labSocket(node: string): Promise<string> {
  const labs = entries(labRoot).filter((lab) => entries(join(labRoot, lab)).includes(node));
  const live = (await Promise.all(labs.map(async (lab) => ((await answers(socketOf(lab, node))) ? [lab] : [])))).flat();
  if (live.length > 1) throw severalLabs(live, node);
  const [lab = labs[0]] = live;
  if (lab !== undefined) return socketOf(lab, node);
  throw new OperatingError("node-unknown", `There is no node "${node}" here`, {
    remedy: "List the nodes: understudy nodes",
    details: { node },
  });
}

function severalLabs(labs: string[], node: string): OperatingError {
  return new OperatingError("several-labs", `Several labs are up: ${labs.join(", ")}`, {
    remedy: `Say which one with --node, for example: --node ${labs[0]}/${node}`,
    details: { labs },
  });
}

/** Labs with at least one agent that answers. */
async function liveLabs(): Promise<Map<string, { node: string; path: string }[]>> {
  const labs = new Map<string, { node: string; path: string }[]>();
  for (const lab of entries(labRoot)) {
    const nodes = entries(join(labRoot, lab)).map((node) => ({ node, path: socketOf(lab, node) }));
    const live = (await Promise.all(nodes.map(async (one) => ((await answers(one.path)) ? [one] : [])))).flat();
    if (live.length > 0) labs.set(lab, live);
  }
  return labs;
}

async function secureClient(url: string): Promise<AgentClient> {
  const { tlsOptions } = await import("../cluster/tls.ts");
  const token = process.env.UNDERSTUDY_TOKEN;
  if (token !== undefined && token !== "") {
    const ca = await readFile(process.env.UNDERSTUDY_CA ?? join(defaultTlsDirectory, "ca.crt")).catch((cause) => {
      throw new OperatingError("authority-unreadable", `Cannot read the cluster's certificate: ${cause.message}`, {
        remedy: "Copy ca.crt from a node, and name it in UNDERSTUDY_CA.",
        cause,
      });
    });
    const bearer = () => ({ authorization: `Bearer ${token}` });
    return AgentClient.tls(url, { ca, minVersion: "TLSv1.3" }, undefined, bearer);
  }
  const directory = process.env.UNDERSTUDY_TLS ?? defaultTlsDirectory;
  const files = ["ca.crt", "node.crt", "node.key"].map((file) => join(directory, file));
  return AgentClient.tls(url, await tlsOptions({ ca: files[0]!, certificate: files[1]!, key: files[2]! }));
}

const socketOf = (lab: string, node: string) => join(labRoot, lab, node, "agent.sock");

function entries(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch {
    return [];
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
