/**
 * The dependency tree as plain data, from the last checkpoint: resources, who uses what, what of it is shared, and what
 * outside the application it leans on. Pure: it asks neither the application nor the kernel.
 */
import type { Resource, ZombieState } from "../checkpoint/operations.ts";
import type { ProcessResource, ThreadState } from "../checkpoint/process-capture.ts";
import type { DescriptorEntry } from "../resources/descriptor/table.ts";
import type { Area, Backing } from "../resources/memory/layout.ts";
import { type Details, describeResource, type Told } from "./describe.ts";

export interface GraphNode {
  /** Stable while the resource is there: `process/2`, `thread/2/5`, `description/17`, `file/PATH`, `host/ADDRESS` … */
  id: string;
  kind: string;
  label: string;
  details: Details;
  /** Not part of what is replicated: it must be there, alike, on every node, or it is somebody else. */
  outside: boolean;
  /** Processes (their ids) that use it. */
  users: string[];
}

export interface GraphEdge {
  from: string;
  to: string;
  /** `child`, `thread`, `descriptor`, `maps`, `runs`, `watches`, `peer`, or how a file or buffer is used. */
  kind: string;
  /** Descriptor numbers, protections, ports. */
  label: string;
}

export interface Graph {
  /** Of this document; grows when a key changes its meaning. Keys are only ever added. */
  version: 1;
  application: string;
  term: number;
  epoch: number;
  /** RFC 3339; of the checkpoint that this tells of. */
  at: string;
  nodes: GraphNode[];
  edges: GraphEdge[];
}

/** What is known of a file by its path as the application sees it. */
export interface FileIdentity {
  /** Hexadecimal, of ELF files that have one. */
  buildId?: string;
  /** It is in the application's own layer, so its content is replicated. */
  isOwn: boolean;
}

export interface GraphInput {
  application: string;
  term: number;
  epoch: number;
  at: string;
  /** Every resource of the last checkpoint by its key. */
  resources: ReadonlyMap<string, Resource>;
  /** Memory areas by pid as the application sees it. */
  areas: ReadonlyMap<number, readonly Area[]>;
  files?: (path: string) => FileIdentity | undefined;
}

/** Trees of their own whose content is replicated, or made anew on each node. */
const NEVER_OUTSIDE = /^\/(dev|proc|sys)\//;

class Builder {
  readonly nodes = new Map<string, GraphNode>();
  readonly edges: GraphEdge[] = [];

  node(id: string, kind: string, label: string, details: Details = {}, outside = false): GraphNode {
    const known = this.nodes.get(id);
    if (known) return known;
    const made = { id, kind, label, details, outside, users: [] };
    this.nodes.set(id, made);
    return made;
  }

  edge(from: string, to: string, kind: string, label = ""): void {
    this.edges.push({ from, to, kind, label });
  }

  use(id: string, process: string): void {
    const { users } = this.nodes.get(id)!;
    if (!users.includes(process)) users.push(process);
  }
}

export function graphOf(input: GraphInput): Graph {
  const builder = new Builder();
  const file = (path: string): string => {
    const identity = input.files?.(path);
    const details: Details = { path, ...(identity?.buildId ? { buildId: identity.buildId } : {}) };
    const isOutside = !(identity?.isOwn ?? false) && !NEVER_OUTSIDE.test(path);
    return builder.node(`file/${path}`, "file", path, details, isOutside).id;
  };
  const of = (kind: string) => [...input.resources].filter(([, resource]) => resource.kind === kind);
  addProcesses(builder, of("process"), of("zombie"), file);
  addThreads(builder, of("thread"));
  for (const [pid, areas] of input.areas) if (builder.nodes.has(`process/${pid}`)) addMemory(builder, pid, areas, file);
  addDescriptions(builder, input.resources, file);
  const { application, term, epoch, at } = input;
  return { version: 1, application, term, epoch, at, nodes: [...builder.nodes.values()], edges: builder.edges };
}

type Found = Array<[string, Resource]>;

function addProcesses(builder: Builder, processes: Found, zombies: Found, file: (path: string) => string): void {
  for (const [, { state }] of processes) {
    const { pid, parent, name, executable, session, group, credentials, workingDirectory, nice } =
      state as ProcessResource;
    const details: Details = { pid, parent, name, executable, session, group, workingDirectory, nice };
    const uid = credentials?.uids[1];
    const id = builder.node(`process/${pid}`, "process", name, {
      ...details,
      ...(uid === undefined ? {} : { uid }),
    }).id;
    const program = file(executable);
    builder.edge(id, program, "runs");
    builder.use(program, id);
  }
  for (const [, { state }] of zombies) {
    const { pid, parent, code, signal } = state as ZombieState;
    builder.node(`process/${pid}`, "zombie", "", { pid, parent, code, signal });
  }
  for (const { id, details } of [...builder.nodes.values()]) {
    const above = `process/${details.parent}`;
    if (details.pid !== undefined && builder.nodes.has(above)) builder.edge(above, id, "child");
  }
}

function addThreads(builder: Builder, threads: Found): void {
  for (const [key, { state }] of threads) {
    const { process, tid, name } = state as ThreadState;
    const owner = `process/${process}`;
    if (!builder.nodes.has(owner)) continue;
    builder.node(key, "thread", name, { tid, name });
    builder.edge(owner, key, "thread");
    builder.use(key, owner);
  }
}

interface Group {
  id: string;
  kind: string;
  label: string;
  bytes: number;
  areas: number;
  protections: Set<string>;
}

function protectionText(protection: number): string {
  return `${protection & 1 ? "r" : "-"}${protection & 2 ? "w" : "-"}${protection & 4 ? "x" : "-"}`;
}

/** What an area's memory is: its own, shared with others, or a file's. */
function placeOf(
  pid: number,
  { backing, heap }: Area,
  file: (path: string) => string,
): Pick<Group, "id" | "kind" | "label"> {
  const own = (name: string) => ({ id: `memory/${pid}/${name}`, kind: "memory", label: name });
  const shared = (b: Extract<Backing, { type: "shared" }>) => ({
    id: `shared/${b.id}`,
    kind: "shared-memory",
    label: b.path,
  });
  switch (backing.type) {
    case "anonymous":
      return own(heap ? "heap" : "anonymous");
    case "stack":
      return own("stack");
    case "kernel":
      return own("kernel");
    case "shared":
      return shared(backing);
    case "file":
      return { id: file(backing.path), kind: "file", label: backing.path };
  }
}

/** Areas summarised by what is behind them. */
function addMemory(builder: Builder, pid: number, areas: readonly Area[], file: (path: string) => string): void {
  const owner = `process/${pid}`;
  const groups = new Map<string, Group>();
  for (const area of areas) {
    const place = placeOf(pid, area, file);
    const group = groups.get(place.id) ?? { ...place, bytes: 0, areas: 0, protections: new Set<string>() };
    group.bytes += area.end - area.start;
    group.areas++;
    group.protections.add(
      protectionText(area.protection) + (area.backing.type === "file" && area.backing.shared ? "s" : ""),
    );
    groups.set(place.id, group);
  }
  for (const { id, kind, label, bytes, areas: count, protections } of groups.values()) {
    const { details } = builder.node(id, kind, label, kind === "memory" ? { bytes, areas: count } : {});
    if (kind !== "memory") details.mappedBytes = Math.max(Number(details.mappedBytes ?? 0), bytes);
    builder.edge(owner, id, "maps", [...protections].join(" "));
    builder.use(id, owner);
  }
}

interface Holder {
  process: string;
  fd: number;
}

function addDescriptions(
  builder: Builder,
  resources: ReadonlyMap<string, Resource>,
  file: (path: string) => string,
): void {
  const tables = new Map<string, Map<number, string>>();
  const holders = new Map<string, Holder[]>();
  for (const [key, { kind, state }] of resources) {
    if (kind !== "descriptors") continue;
    const process = `process/${key.slice("descriptors/".length)}`;
    const table = new Map<number, string>();
    for (const { fd, description } of state as DescriptorEntry[]) {
      const id = `description/${description}`;
      table.set(fd, id);
      holders.set(id, [...(holders.get(id) ?? []), { process, fd }]);
    }
    tables.set(process, table);
  }
  const told = new Map<string, Told>();
  const ofProcesses = new Set(["process", "thread", "descriptors", "zombie", "limits"]);
  for (const [id, { kind, state }] of resources) {
    if (ofProcesses.has(kind)) continue;
    const what = describeResource(kind, state);
    told.set(id, what);
    builder.node(id, kind, what.label, what.details);
    for (const { process, fd } of holders.get(id) ?? []) {
      if (!builder.nodes.has(process)) continue;
      builder.edge(process, id, "descriptor", String(fd));
      builder.use(id, process);
    }
  }
  for (const [id, what] of told) addUses(builder, id, what, file);
  addPeers(builder, told);
  for (const [id, { watches = [] }] of told)
    for (const fd of watches) {
      const target = (holders.get(id) ?? []).map(({ process }) => tables.get(process)?.get(fd)).find(Boolean);
      if (target !== undefined && builder.nodes.has(target)) builder.edge(id, target, "watches", String(fd));
    }
}

function addUses(builder: Builder, id: string, { uses = [] }: Told, file: (path: string) => string): void {
  for (const use of uses) {
    const target = use.kind === "file" ? file(use.label) : builder.node(use.id, use.kind, use.label).id;
    builder.edge(id, target, use.edge);
    for (const process of builder.nodes.get(id)!.users) builder.use(target, process);
  }
}

/** Both ends of a connection inside the application know each other; other ends are hosts outside. */
function addPeers(builder: Builder, told: ReadonlyMap<string, Told>): void {
  const byNumber = new Map<number, string>();
  for (const [id, { pair }] of told) if (pair) byNumber.set(pair.own, id);
  for (const [id, { pair }] of told) {
    const other = pair && pair.peer > 0 ? byNumber.get(pair.peer) : undefined;
    if (other !== undefined && id < other) builder.edge(id, other, "peer");
  }
  const byEndpoints = new Map<string, string>();
  for (const [id, { endpoint }] of told)
    if (endpoint?.remote) byEndpoints.set(`${endpoint.protocol} ${endpoint.local} ${endpoint.remote}`, id);
  for (const [id, { endpoint }] of told) {
    if (!endpoint?.remote) continue;
    const inside = byEndpoints.get(`${endpoint.protocol} ${endpoint.remote} ${endpoint.local}`);
    if (inside !== undefined) {
      if (id < inside) builder.edge(id, inside, "peer");
      continue;
    }
    const at = endpoint.remote.lastIndexOf(":");
    const address = endpoint.remote.slice(0, at);
    const host = builder.node(`host/${address}`, "host", address, { address }, true);
    host.details.connections = Number(host.details.connections ?? 0) + 1;
    builder.edge(id, host.id, "peer", endpoint.remote.slice(at + 1));
    for (const process of builder.nodes.get(id)!.users) builder.use(host.id, process);
  }
}
