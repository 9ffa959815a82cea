/** What the primary's role is made of, and whom it tells. */
import type { ApplicationSpec } from "../cluster/spec.ts";
import type { ViewEvent } from "../cluster/view.ts";
import type { OutputHold } from "../network/hold.ts";
import type { ApplicationInterface } from "../network/interface.ts";
import type { InodeNumbers } from "../stage/inode-numbers.ts";
import type { Stage } from "../stage/stage.ts";
import type { Tracees } from "../tree/tracees.ts";

export interface PrimaryParts {
  /** As it is now: it may change while the application runs. */
  application: ApplicationSpec;
  stage: Stage;
  /** Where the application's layer of files is on this node. */
  filesDirectory: string;
  /** Of its disk, if it has one of its own. */
  numbers?: InodeNumbers | undefined;
  tracees: Tracees;
  port: ApplicationInterface;
  hold: OutputHold;
  /** As it is now: a planned switch that is off brings another. */
  term: number;
  /** Epochs go on above it. */
  epoch: number;
}

export interface PrimaryShell {
  /** The clone on `node` comes to life as primary of `term`. */
  rising: (node: string, term: number) => void;
  tell: (event: ViewEvent) => void;
  note: (kind: string, message: string, details?: Record<string, unknown>) => void;
}
