/** Changes between two looks at a dependency tree. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { changeText, graphChange } from "../../../src/tree/diff.ts";
import type { Graph, GraphEdge, GraphNode } from "../../../src/tree/graph.ts";

const node = (id: string, label = "", more: Partial<GraphNode> = {}): GraphNode => ({
  id,
  kind: id.split("/")[0]!,
  label,
  details: {},
  outside: false,
  users: [],
  ...more,
});
const edge = (from: string, to: string, kind = "descriptor", label = ""): GraphEdge => ({ from, to, kind, label });
const graph = (epoch: number, nodes: GraphNode[], edges: GraphEdge[] = [], term = 1): Graph => ({
  version: 1,
  application: "app",
  term,
  epoch,
  at: `2020-01-01T00:00:0${epoch}.000Z`,
  nodes,
  edges,
});

const process = node("process/2", "app");
const pipe = node("description/7", "pipe:[7]", { details: { bytes: 3 }, users: ["process/2"] });

test("an epoch more is no change", () => {
  const before = graph(1, [process, pipe], [edge("process/2", "description/7")]);
  assert.equal(
    graphChange(before, { ...structuredClone(before), epoch: 2, at: "2020-01-01T00:00:02.000Z" }),
    undefined,
  );
});

test("what has come, gone and changed is told, with what leads to it", () => {
  const socket = node("description/9", "tcp 10.77.0.10:80");
  const fuller = { ...pipe, details: { bytes: 5 }, users: ["process/2", "process/5"] };
  const before = graph(1, [process, pipe, node("zombie/6")], [edge("process/2", "description/7", "descriptor", "3")]);
  const after = graph(
    2,
    [process, fuller, socket],
    [edge("process/2", "description/7", "descriptor", "4"), edge("process/2", "description/9", "descriptor", "5")],
  );
  const change = graphChange(before, after)!;
  assert.deepEqual(change.added, [socket]);
  assert.deepEqual(change.removed, [node("zombie/6")]);
  assert.deepEqual(change.changed, [{ before: pipe, after: fuller }]);
  assert.deepEqual(
    [change.addedEdges.map(({ label }) => label), change.removedEdges.map(({ label }) => label)],
    [["4", "5"], ["3"]],
  );
  assert.equal(
    changeText(change),
    [
      "2020-01-01T00:00:02.000Z  term 1, epoch 2",
      "  + description/9 tcp 10.77.0.10:80",
      "  - zombie/6",
      "  ~ description/7 pipe:[7]: bytes 3 → 5, used by process/2 → process/2, process/5",
      "  + process/2 descriptor 4 description/7",
      "  - process/2 descriptor 3 description/7",
      "",
    ].join("\n"),
  );
});

test("a new term is a change, though nothing else is", () => {
  const change = graphChange(graph(1, [process]), graph(2, [process], [], 2))!;
  assert.deepEqual([change.term, change.epoch, change.added, change.changed], [2, 2, [], []]);
});
