/** The cluster as placement looks at it: what the nodes say of themselves, and where the records have applications. */
import { type ApplicationPicture, type Load, type NodePicture, noWishes, Picture } from "../cluster/placement.ts";
import type { Health } from "./api-types.ts";
import type { AgentContext } from "./context.ts";
import { wanted } from "./wanted.ts";

/** Of an application that nobody has measured yet. */
const UNKNOWN: Load = { cpu: 0.1, memory: 64 * 2 ** 20, network: 0 };
/** Of a node that does not answer: nothing is placed there. */
const NOTHING: Load = { cpu: 1, memory: 1, network: 1 };

export async function takePicture(context: AgentContext): Promise<Picture> {
  const [nodes, records] = await Promise.all([context.records.nodes(), context.records.applications()]);
  const healths = new Map<string, Health>();
  await Promise.all(
    nodes.map(async ({ name }) => {
      const health = await context.peers.health(name).catch(() => undefined);
      if (health !== undefined) healths.set(name, health);
    }),
  );
  const pictures = nodes.map(({ name, labels }): NodePicture => {
    const health = healths.get(name);
    const open = health !== undefined && !context.drained.has(name);
    return { name, labels, capacity: health?.load?.capacity ?? NOTHING, open };
  });
  const applications = [...records.values()].flatMap((record): ApplicationPicture[] => {
    const { name, spec, view } = record;
    if (spec === undefined || view === undefined || view.value.ended) return [];
    const { primary } = view.value;
    const load = healths.get(primary)?.load?.applications[name] ?? UNKNOWN;
    return [
      { name, load, primary, standbys: wanted(context, record), wishes: { ...noWishes, ...spec.value.placement } },
    ];
  });
  return new Picture(pictures, applications);
}
