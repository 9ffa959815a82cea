/** What the parts of an instance have in common. */
import type { RestartHistory } from "../cluster/restart.ts";
import type { InstanceConfig } from "./control.ts";
import type { ViewShell } from "./view-shell.ts";

export interface InstanceShell {
  readonly config: InstanceConfig;
  readonly view: ViewShell;
  /** Of the application, as far as is known here. */
  readonly restarts: { history: RestartHistory };
  /** A sign of life of the node that comes to life as primary of `term`. */
  rising(node: string, term: number): void;
  /** News for the log and the agent. */
  note(kind: string, message: string, details?: Record<string, unknown>): void;
}

/** Where the application's changes of the node's files are. */
export function filesDirectoryOf(config: InstanceConfig): string {
  return `${config.stateDirectory}/files`;
}
