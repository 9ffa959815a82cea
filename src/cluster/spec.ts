/** What the cluster store holds for an application: its specification and its view. */
import type { Application, Volume } from "./application.ts";

export type CommitPolicy = Application["commit"];
export type OnTooFew = Application["onTooFew"];
export type OnUnprotectable = Application["onUnprotectable"];

/** What an application that has crashed goes on from: docs/app.yaml, `restart`. */
export type RestartStep = "newest" | "older" | "cold";

/** `applications/NAME/spec`: what its owner wishes (application.ts), and since when. */
export interface ApplicationSpec extends Application {
  home: string;
  /** Tells two applications of one name apart. */
  createdAt: string;
}

/** Apart from the schema, so that an instance does not load that. */
export const applicationDefaults = {
  environment: {} as Record<string, string>,
  workingDirectory: "/",
  standby: [] as string[],
  minInSync: 0,
  onTooFew: "continue",
  commit: "checkpoint",
  period: "auto",
  keep: 3,
  onUnprotectable: "hold",
  syncLimit: 0,
  placement: {
    standbys: 0,
    require: {} as Record<string, string>,
    prefer: {} as Record<string, string>,
    avoid: [] as string[],
    spread: "zone",
    apart: [] as string[],
    replaceAfter: 60,
  },
  restart: { on: "never", steps: ["newest", "older", "cold"] as RestartStep[], within: 300 },
  health: {
    probe: "none",
    port: 0,
    path: "/",
    command: [] as string[],
    interval: 5,
    timeout: 2,
    failures: 3,
    grace: 60,
  },
  balance: "manual",
  volumes: [] as Volume[],
  durable: false,
  disk: 0,
} as const;

/** A record as it is read: one that an older version wrote lacks keys that came since. */
export function completeSpec(stored: ApplicationSpec): ApplicationSpec {
  return { ...applicationDefaults, ...stored };
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
