/** What `apply` would do: the difference between what an application is and what it shall be. Pure. */
import { type Application, type ApplicationKey, keyChanges } from "./application.ts";
import type { ApplicationSpec } from "./spec.ts";

export interface KeyChange {
  key: ApplicationKey;
  /** Absent: the key is not set. */
  from?: unknown;
  to?: unknown;
  /** `live`: while it runs. `recreate`: the program has to start anew. */
  takes: "live" | "recreate";
}

export interface ApplyPlan {
  application: string;
  /** `recreate`: at least one of the changes takes another start. */
  action: "none" | "create" | "change" | "recreate";
  changes: KeyChange[];
}

/**
 * @param is what the store has; undefined when there is no such application, or when it has ended
 * @param shall with everything filled in that is filled in at a start; without `home` the application keeps its own
 */
export function planOf(is: ApplicationSpec | undefined, shall: Application): ApplyPlan {
  const application = shall.name;
  if (is === undefined) return { application, action: "create", changes: [] };
  const wanted = { home: is.home, ...shall };
  const changes = (Object.keys(keyChanges) as ApplicationKey[]).flatMap((key): KeyChange[] => {
    const [from, to] = [is[key], wanted[key]];
    if (canonical(from) === canonical(to)) return [];
    const takes = keyChanges[key];
    return [{ key, ...(from !== undefined && { from }), ...(to !== undefined && { to }), takes }];
  });
  const recreates = changes.some(({ takes }) => takes === "recreate");
  return { application, action: changes.length === 0 ? "none" : recreates ? "recreate" : "change", changes };
}

/** The same text for the same value, whatever the order of an object's keys. */
function canonical(value: unknown): string | undefined {
  return JSON.stringify(value, (_, part: unknown) =>
    part !== null && typeof part === "object" && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
