/** What has changed between two looks at an application's dependency tree. Pure. */
import { isDeepStrictEqual } from "node:util";
import type { Graph, GraphEdge, GraphNode } from "./graph.ts";

/** From one graph to a later one; the keys of a graph are those of graph.ts. */
export interface GraphChange {
  application: string;
  term: number;
  epoch: number;
  /** RFC 3339; of the checkpoint in which it was seen. */
  at: string;
  added: GraphNode[];
  /** As they were. */
  removed: GraphNode[];
  /** Kept their id, and changed in label, details or users. */
  changed: Array<{ before: GraphNode; after: GraphNode }>;
  addedEdges: GraphEdge[];
  removedEdges: GraphEdge[];
}

const edgeKey = ({ from, to, kind, label }: GraphEdge) => JSON.stringify([from, to, kind, label]);

/** Undefined when nothing has changed but the epoch. */
export function graphChange(before: Graph, after: Graph): GraphChange | undefined {
  const old = new Map(before.nodes.map((node) => [node.id, node]));
  const now = new Map(after.nodes.map((node) => [node.id, node]));
  const oldEdges = new Map(before.edges.map((edge) => [edgeKey(edge), edge]));
  const nowEdges = new Map(after.edges.map((edge) => [edgeKey(edge), edge]));
  const change: GraphChange = {
    application: after.application,
    term: after.term,
    epoch: after.epoch,
    at: after.at,
    added: after.nodes.filter(({ id }) => !old.has(id)),
    removed: before.nodes.filter(({ id }) => !now.has(id)),
    changed: after.nodes.flatMap((node) => {
      const was = old.get(node.id);
      return was === undefined || isDeepStrictEqual(was, node) ? [] : [{ before: was, after: node }];
    }),
    addedEdges: [...nowEdges].flatMap(([key, edge]) => (oldEdges.has(key) ? [] : [edge])),
    removedEdges: [...oldEdges].flatMap(([key, edge]) => (nowEdges.has(key) ? [] : [edge])),
  };
  const { added, removed, changed, addedEdges, removedEdges } = change;
  const isNothing = [added, removed, changed, addedEdges, removedEdges].every((list) => list.length === 0);
  return isNothing && before.term === after.term ? undefined : change;
}

const nodeText = ({ id, label }: GraphNode) => (label === "" || id.endsWith(label) ? id : `${id} ${label}`);

/** The details that differ, as `key before → after`; the label where they tell nothing. */
function differences({ before, after }: GraphChange["changed"][number]): string {
  const keys = [...new Set([...Object.keys(before.details), ...Object.keys(after.details)])];
  const of = (node: GraphNode, key: string) => JSON.stringify(node.details[key]) ?? "none";
  const details = keys.filter((key) => of(before, key) !== of(after, key));
  const parts = details.map((key) => `${key} ${of(before, key)} → ${of(after, key)}`);
  if (before.label !== after.label && parts.length === 0) parts.push(`${before.label} → ${after.label}`);
  if (!isDeepStrictEqual(before.users, after.users))
    parts.push(`used by ${before.users.join(", ") || "nobody"} → ${after.users.join(", ") || "nobody"}`);
  return parts.join(", ");
}

/** For people: a line for each change, `+`, `-` or `~` first; the last line ended too. */
export function changeText(change: GraphChange): string {
  const edge = ({ from, to, kind, label }: GraphEdge) => `${from} ${`${kind} ${label}`.trim()} ${to}`;
  // Edges of what has come or gone tell nothing more than that.
  const come = new Set(change.added.map(({ id }) => id));
  const gone = new Set(change.removed.map(({ id }) => id));
  const lines = [
    ...change.added.map((node) => `+ ${nodeText(node)}`),
    ...change.removed.map((node) => `- ${nodeText(node)}`),
    ...change.changed.map((one) => `~ ${nodeText(one.after)}: ${differences(one)}`),
    ...change.addedEdges.filter(({ from, to }) => !come.has(from) && !come.has(to)).map((one) => `+ ${edge(one)}`),
    ...change.removedEdges.filter(({ from, to }) => !gone.has(from) && !gone.has(to)).map((one) => `- ${edge(one)}`),
  ];
  return `${[`${change.at}  term ${change.term}, epoch ${change.epoch}`, ...lines.map((line) => `  ${line}`)].join("\n")}\n`;
}
