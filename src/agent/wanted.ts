/** Which nodes shall hold a clone of an application, as this agent knows the cluster. */
import { noPlacement, wantedStandbys } from "../cluster/standbys.ts";
import type { AgentContext } from "./context.ts";
import type { ApplicationRecord } from "./records.ts";

/** Without a view: as if its home were the primary. */
export function wanted(context: AgentContext, { spec, view, placement }: ApplicationRecord): string[] {
  if (spec === undefined) return [];
  const primary = view?.value.primary ?? spec.value.home;
  return wantedStandbys(spec.value, { primary }, placement?.value ?? noPlacement, context.drained);
}
