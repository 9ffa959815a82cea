/** What the cluster store holds for an application: its specification and its view. */

/** `checkpoint`: output waits for the standbys' acknowledgement. `none`: output goes out at once (state may be lost). */
export type CommitPolicy = "checkpoint" | "none";

/**
 * What becomes of output when the application has begun to use what cannot be copied, so that no checkpoint can be taken.
 * `hold`: it waits until one can. `warn`: it goes out, as with policy `none`, until one can. Either way the standbys keep the
 * last checkpoint and may take over from it.
 */
export type OnUnprotectable = "hold" | "warn";

/** `applications/NAME/spec` */
export interface ApplicationSpec {
  name: string;
  /** Program and arguments, as given to execve; the program is looked up in PATH of the application's environment. */
  command: string[];
  environment: Record<string, string>;
  workingDirectory: string;
  /** Service address with prefix length: `10.77.0.10/24`. */
  address: string;
  gateway?: string;
  /** Where it was started. */
  home: string;
  /** Nodes that shall hold a clone; the home node joins them once it is not the primary any more. */
  standby: string[];
  commit: CommitPolicy;
  /** Milliseconds between checkpoints; `auto` adapts. */
  period: number | "auto";
  /** Checkpoints a standby keeps. */
  keep: number;
  /** Absent in records of older versions: `hold`. */
  onUnprotectable?: OnUnprotectable;
  createdAt: string;
}

/** `applications/NAME/view`: changed only by compare-and-swap. */
export interface View {
  /** Grows by one with each new primary. */
  term: number;
  primary: string;
  /**
   * Nodes whose acknowledgement every release of output needs, and which alone may take the next term. Right after a
   * change of term these are those who can replace the new primary until it lives, the old primary among them (view.ts).
   */
  inSync: string[];
  /** The application has ended for good (stopped, or exited by itself): nobody takes over. */
  ended?: { reason: string; at: string };
}
