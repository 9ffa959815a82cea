/** The dependency tree from resources as a checkpoint has them; build ids of program files. */
import assert from "node:assert/strict";
import { closeSync, openSync } from "node:fs";
import { test } from "node:test";
import type { Resource } from "../../../src/checkpoint/operations.ts";
import type { Area } from "../../../src/resources/memory/layout.ts";
import { RECORD_BYTES, RECORD_MAGIC, STATE } from "../../../src/resources/tcp/record.ts";
import { endpointText } from "../../../src/tree/describe.ts";
import { buildIdIn, buildIdOf } from "../../../src/tree/files.ts";
import { type Graph, graphOf } from "../../../src/tree/graph.ts";
import { treeDot, treeText } from "../../../src/tree/render.ts";

const resource = (kind: string, state: unknown): Resource => ({ kind, version: 1, state });

function process(pid: number, parent: number, name: string): [string, Resource] {
  const state = { pid, parent, name, executable: "/usr/bin/app", session: 2, group: 2, workingDirectory: "/", nice: 0 };
  return [`process/${pid}`, resource("process", { ...state, credentials: { uids: [0, 1000, 0, 0] } })];
}

function address(port: number, host: number): Buffer {
  return Buffer.from([2, 0, port >> 8, port & 255, 10, 77, 0, host, 0, 0, 0, 0, 0, 0, 0, 0]);
}

function connection(state: number, local: Buffer, remote?: Buffer): Resource {
  const content = Buffer.alloc(RECORD_BYTES);
  content.writeUInt32LE(RECORD_MAGIC, 0);
  content.writeUInt32LE(state, 4);
  content.writeUInt32LE(2, 8);
  local.copy(content, 12);
  remote?.copy(content, 40);
  return resource("tcp", { flags: 2, content });
}

const entries = (...list: Array<[fd: number, description: string]>) =>
  resource(
    "descriptors",
    list.map(([fd, description]) => ({ fd, description, closeOnExec: false })),
  );
const pipe = (flags: number) =>
  resource("pipe", { pipe: "pipe:[7]", flags, sizeBytes: 65536, content: Buffer.from("abc"), packets: [] });

function unix(inode: number, peer: number): Resource {
  const address = Buffer.from("\x01\0/run/x");
  return resource("unix", { inode, type: 1, name: { address }, listening: false, peer, queue: [] });
}

const resources = new Map<string, Resource>([
  process(2, 1, "app"),
  process(5, 2, "worker"),
  ["zombie/6", resource("zombie", { pid: 6, parent: 2, code: 3, signal: 0 })],
  ["thread/2/2", resource("thread", { process: 2, tid: 2, name: "app" })],
  ["thread/5/5", resource("thread", { process: 5, tid: 5, name: "worker" })],
  ["descriptors/2", entries([0, "1"], [3, "2"], [4, "3"], [5, "4"], [6, "5"], [7, "6"], [8, "9"])],
  ["descriptors/5", entries([0, "1"], [4, "3"])],
  ["description/1", resource("file", { path: "/data/log", flags: 1, position: 10 })],
  ["description/2", pipe(0)],
  ["description/3", pipe(1)],
  ["description/4", resource("epoll", { flags: 2, targets: [{ fd: 3, events: 1, data: "0" }] })],
  ["description/5", connection(STATE.listen, address(80, 10))],
  ["description/6", connection(STATE.established, address(80, 10), address(4000, 250))],
  ["description/7", connection(STATE.established, address(81, 10), address(82, 10))],
  ["description/8", connection(STATE.established, address(82, 10), address(81, 10))],
  ["description/9", resource("novelty", { colour: "blue", parts: [1, 2] })],
  ["description/10", unix(11, 12)],
  ["description/11", unix(12, 11)],
  ["semaphores/1", resource("semaphores", { key: 17 })],
]);
const area = (start: number, backing: Area["backing"]): Area => ({ start, end: start + 4096, protection: 3, backing });
const areas = new Map<number, Area[]>([
  [2, [area(4096, { type: "anonymous" }), area(8192, { type: "anonymous" }), area(65536, { type: "stack" })]],
  [5, [area(4096, { type: "shared", id: "0:9", offset: 0, path: "/memfd:x" })]],
]);
areas.get(2)!.push(area(1 << 20, { type: "shared", id: "0:9", offset: 0, path: "/memfd:x" }));
areas.get(2)!.push(area(1 << 21, { type: "file", path: "/usr/lib/libx.so", offset: 0, shared: false }));

const graph: Graph = graphOf({
  application: "app",
  term: 1,
  epoch: 9,
  at: "2020-01-01T00:00:00.000Z",
  resources,
  areas,
  files: (path) => (path.startsWith("/data/") ? { isOwn: true } : { isOwn: false, buildId: "c0ffee" }),
});
const node = (id: string) => graph.nodes.find((one) => one.id === id)!;
const edges = (kind: string) => graph.edges.filter((edge) => edge.kind === kind).map(({ from, to }) => `${from} ${to}`);

test("every resource is a node, every edge has both ends", () => {
  for (const key of resources.keys())
    if (!key.startsWith("descriptors/") && !key.startsWith("zombie/")) assert.ok(node(key), key);
  const ids = new Set(graph.nodes.map(({ id }) => id));
  assert.equal(ids.size, graph.nodes.length);
  for (const { from, to } of graph.edges) assert.ok(ids.has(from) && ids.has(to), `${from} → ${to}`);
});

test("processes, children, zombies, threads", () => {
  assert.deepEqual(edges("child"), ["process/2 process/5", "process/2 process/6"]);
  assert.deepEqual(edges("thread"), ["process/2 thread/2/2", "process/5 thread/5/5"]);
  assert.equal(node("process/2").details.uid, 1000);
  assert.equal(node("process/6").kind, "zombie");
});

test("who shares what", () => {
  assert.deepEqual(node("description/1").users, ["process/2", "process/5"]);
  assert.deepEqual(node("shared/0:9").users, ["process/2", "process/5"]);
  assert.deepEqual(node("pipe/pipe:[7]").users, ["process/2", "process/5"]);
  assert.deepEqual(edges("reads"), ["description/2 pipe/pipe:[7]"]);
  assert.deepEqual(edges("writes"), ["description/3 pipe/pipe:[7]"]);
  assert.deepEqual(edges("watches"), ["description/4 description/2"]);
});

test("memory is summarised by what is behind it", () => {
  assert.deepEqual(node("memory/2/anonymous").details, { bytes: 8192, areas: 2 });
  assert.equal(node("file//usr/lib/libx.so").details.buildId, "c0ffee");
});

test("outside are the files of the node and peers elsewhere", () => {
  const outside = graph.nodes.filter((one) => one.outside).map(({ id }) => id);
  assert.deepEqual(outside.sort(), ["file//usr/bin/app", "file//usr/lib/libx.so", "host/10.77.0.250"]);
  const peers = ["description/10 description/11", "description/6 host/10.77.0.250", "description/7 description/8"];
  assert.deepEqual(edges("peer").sort(), peers);
  assert.equal(node("description/10").label, "stream /run/x connected");
  assert.equal(node("host/10.77.0.250").details.connections, 1);
});

test("a kind that nobody described shows its plain fields", () => {
  assert.deepEqual(node("description/9").details, { colour: "blue" });
  assert.deepEqual(node("semaphores/1").details, { key: 17 });
});

test("as text and for Graphviz", () => {
  const text = treeText(graph);
  for (const line of [
    "├─ 2 app  /usr/bin/app, uid 1000, session 2",
    "│  ├─ 5 worker  /usr/bin/app, uid 1000, session 2",
    "│  └─ 6 ended (code 3), not collected",
    "│  │  ├─ 0 file /data/log  shared by 2, 5",
    "│  │  ├─ 7 tcp 10.77.0.10:80 → 10.77.0.250:4000 established",
    "   └─ host 10.77.0.250  1 connections, used by 2",
  ])
    assert.ok(text.split("\n").includes(line), `${line}\nis not in\n${text}`);
  const dot = treeDot(graph);
  assert.match(dot, /^digraph "app" \{\n/);
  assert.equal(dot.split("\n").filter((line) => line.includes("->")).length, graph.edges.length);
});

test("addresses", () => {
  assert.equal(endpointText(address(6379, 10)), "10.77.0.10:6379");
  const six = Buffer.alloc(28);
  six.writeUInt16LE(10);
  six.writeUInt16BE(443, 2);
  six[8] = 0xfd;
  six[23] = 1;
  assert.equal(endpointText(six), "[fd00::1]:443");
  assert.equal(endpointText(Buffer.alloc(0)), undefined);
});

test("build ids", () => {
  const fd = openSync("/proc/self/exe", "r");
  const id = buildIdOf(fd);
  closeSync(fd);
  assert.ok(id === undefined || /^[0-9a-f]{16,}$/.test(id), id);
  const note = Buffer.from("040000000400000003000000474e5500c0ffee00", "hex");
  assert.equal(buildIdIn(note), "c0ffee00");
  for (let length = 0; length < note.length - 4; length++) buildIdIn(note.subarray(0, length));
});
