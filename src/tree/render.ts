/** The dependency tree for people: as a tree of text, or for Graphviz. */
import type { Graph, GraphEdge, GraphNode } from "./graph.ts";

interface Branch {
  text: string;
  below: Branch[];
}

/** Of many alike, so many are told one by one. */
const MOST_ALIKE = 12;

function size(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

class View {
  readonly graph: Graph;
  readonly nodes: Map<string, GraphNode>;
  readonly from: Map<string, GraphEdge[]>;

  constructor(graph: Graph) {
    this.graph = graph;
    this.nodes = new Map(graph.nodes.map((node) => [node.id, node]));
    this.from = Map.groupBy(graph.edges, ({ from }) => from);
  }

  targets(id: string, kind: string): Array<{ node: GraphNode; label: string }> {
    const edges = (this.from.get(id) ?? []).filter((edge) => edge.kind === kind);
    return edges.map(({ to, label }) => ({ node: this.nodes.get(to)!, label }));
  }

  process(node: GraphNode): Branch {
    const { pid, executable, uid, session, code, signal } = node.details;
    if (node.kind === "zombie")
      return { text: `${pid} ended (${signal ? `signal ${signal}` : `code ${code}`}), not collected`, below: [] };
    const below = [this.threads(node), this.memory(node), this.descriptors(node)].filter((b) => b.below.length > 0);
    const children = this.targets(node.id, "child").map((child) => this.process(child.node));
    const who = [executable, uid === undefined ? undefined : `uid ${uid}`, `session ${session}`].filter(Boolean);
    return { text: `${pid} ${node.label}  ${who.join(", ")}`, below: [...below, ...children] };
  }

  threads({ id }: GraphNode): Branch {
    const threads = this.targets(id, "thread");
    const byName = Map.groupBy(threads, ({ node }) => node.label);
    const below = [...byName].map(([name, alike]) => {
      const tids = alike.slice(0, MOST_ALIKE).map(({ node }) => node.details.tid);
      return { text: `${name}  ${tids.join(" ")}${alike.length > MOST_ALIKE ? " …" : ""}`, below: [] };
    });
    return { text: `threads: ${threads.length}`, below };
  }

  memory({ id }: GraphNode): Branch {
    const maps = this.targets(id, "maps");
    const bytesOf = ({ details }: GraphNode) => Number(details.bytes ?? details.mappedBytes ?? 0);
    const below = maps
      .toSorted((a, b) => bytesOf(b.node) - bytesOf(a.node))
      .map(({ node, label }) => {
        const { areas } = node.details;
        const more = [
          label,
          areas === undefined ? undefined : `${areas} areas`,
          node.users.length > 1 && !node.outside ? `shared by ${numbers(node.users)}` : undefined,
        ];
        return { text: `${node.label}  ${size(bytesOf(node))}, ${more.filter(Boolean).join(", ")}`, below: [] };
      });
    return { text: "memory", below };
  }

  descriptors({ id }: GraphNode): Branch {
    const all = this.targets(id, "descriptor").toSorted((a, b) => Number(a.label) - Number(b.label));
    const counts = new Map<string, number>();
    const below: Branch[] = [];
    for (const { node, label } of all) {
      const count = (counts.get(node.kind) ?? 0) + 1;
      counts.set(node.kind, count);
      if (count > MOST_ALIKE) continue;
      const shared = node.users.length > 1 ? `  shared by ${numbers(node.users)}` : "";
      below.push({ text: `${label} ${node.kind} ${node.label || plain(node)}${shared}`, below: [] });
    }
    for (const [kind, count] of counts)
      if (count > MOST_ALIKE) below.push({ text: `… and ${count - MOST_ALIKE} more of kind ${kind}`, below: [] });
    return { text: `descriptors: ${all.length}`, below };
  }

  others(): Branch {
    const used = new Set(this.graph.edges.map(({ to }) => to));
    const below = this.graph.nodes
      .filter(({ id, kind, outside }) => !used.has(id) && !outside && kind !== "process" && kind !== "zombie")
      .map((node) => ({ text: `${node.kind} ${node.label || plain(node)}`, below: [] }));
    return { text: "of the application as a whole", below };
  }

  outside(): Branch {
    const below = this.graph.nodes
      .filter(({ outside }) => outside)
      .map((node) => {
        const { connections, buildId } = node.details;
        const more = [
          connections === undefined ? undefined : `${connections} connections`,
          buildId === undefined ? undefined : `build id ${buildId}`,
          node.users.length > 0 ? `used by ${numbers(node.users)}` : undefined,
        ];
        return { text: `${node.kind} ${node.label}  ${more.filter(Boolean).join(", ")}`.trimEnd(), below: [] };
      });
    return { text: "leans on, outside", below };
  }
}

const numbers = (users: string[]): string => users.map((id) => id.slice("process/".length)).join(", ");

function plain({ details }: GraphNode): string {
  return Object.entries(details)
    .map(([key, value]) => `${key} ${value}`)
    .join(", ");
}

function draw({ text, below }: Branch, lines: string[], first: string, rest: string): void {
  lines.push(first + text);
  below.forEach((branch, i) => {
    const last = i === below.length - 1;
    draw(branch, lines, `${rest}${last ? "└─ " : "├─ "}`, `${rest}${last ? "   " : "│  "}`);
  });
}

/** Lines of text, the last one ended too. */
export function treeText(graph: Graph): string {
  const view = new View(graph);
  const isChild = new Set(graph.edges.filter(({ kind }) => kind === "child").map(({ to }) => to));
  const roots = graph.nodes.filter(({ id, kind }) => (kind === "process" || kind === "zombie") && !isChild.has(id));
  const count = (kind: string) => graph.nodes.filter((node) => node.kind === kind).length;
  const head = `${graph.application}  term ${graph.term}, epoch ${graph.epoch}, ${graph.at}; processes ${count("process")}, threads ${count("thread")}`;
  const parts = [...roots.map((root) => view.process(root)), view.others(), view.outside()];
  const isWorthTelling = (branch: Branch, i: number) => i < roots.length || branch.below.length > 0;
  const lines: string[] = [];
  draw({ text: head, below: parts.filter(isWorthTelling) }, lines, "", "");
  return `${lines.join("\n")}\n`;
}

const SHAPES: Record<string, string> = {
  process: "box",
  thread: "plain",
  file: "note",
  host: "house",
  memory: "cylinder",
};

/** A document for `dot -Tsvg`. */
export function treeDot(graph: Graph): string {
  const quote = (text: string) => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
  const nodes = graph.nodes.map(({ id, kind, label, details, outside }) => {
    const text = kind === "process" ? `${details.pid} ${label}` : `${kind} ${label}`.trim();
    const style = outside ? ", style=dashed" : "";
    return `  ${quote(id)} [label=${quote(text)}, shape=${SHAPES[kind] ?? "ellipse"}${style}];`;
  });
  const edges = graph.edges.map(
    ({ from, to, kind, label }) => `  ${quote(from)} -> ${quote(to)} [label=${quote(`${kind} ${label}`.trim())}];`,
  );
  return `digraph ${quote(graph.application)} {\n  rankdir=LR;\n${[...nodes, ...edges].join("\n")}\n}\n`;
}
