/** What the agent asks an instance for. */
import type { Identity } from "../cluster/identity.ts";
import { describeView } from "../cluster/view.ts";
import { OperatingError } from "../kernel/failure.ts";
import type { CheckpointSummary, InstanceStatus } from "./control.ts";
import { Figures } from "./figures.ts";
import type { PrimaryRole } from "./primary-role.ts";
import type { InstanceShell } from "./shell.ts";
import type { SpecificationWatch } from "./specification.ts";
import { connectStandby } from "./standby-link.ts";
import type { StandbyRole } from "./standby-role.ts";
import type { StreamServer } from "./stream-server.ts";
import type { Waiters } from "./waiters.ts";

const NO_FIGURES = new Figures();

export interface InstanceParts {
  primary: PrimaryRole;
  standby: StandbyRole;
  streams: StreamServer;
  waiters: Waiters;
  identity: Identity;
  specification: SpecificationWatch;
}

export class Requests {
  readonly #shell: InstanceShell;
  readonly #primary: PrimaryRole;
  readonly #standby: StandbyRole;
  readonly #streams: StreamServer;
  readonly #waiters: Waiters;
  readonly #identity: Identity;
  readonly #specification: SpecificationWatch;

  constructor(shell: InstanceShell, parts: InstanceParts) {
    this.#shell = shell;
    this.#primary = parts.primary;
    this.#standby = parts.standby;
    this.#streams = parts.streams;
    this.#waiters = parts.waiters;
    this.#identity = parts.identity;
    this.#specification = parts.specification;
  }

  status(): InstanceStatus {
    const { role, state, term, inSync } = describeView(this.#shell.view.state);
    const primary = this.#primary.current;
    const { application, node, listenHost } = this.#shell.config;
    const links = primary ? [...primary.links.values()] : [];
    const lost = primary
      ? new Set([...primary.lost.keys(), ...inSync.filter((other) => !primary.links.has(other))])
      : [];
    const failed = [...(primary?.failures ?? [])].map(([other, failure]) => ({ node: other, failure }));
    return {
      application: application.name,
      node,
      role,
      state,
      term,
      epoch: primary?.epoch ?? this.#standby.clone?.newest?.epoch ?? 0,
      initPid: primary?.parts.stage.init ?? this.#standby.clone?.stage.init ?? 0,
      instancePid: process.pid,
      specification: this.#specification.revision,
      stream: { host: listenHost, port: this.#streams.port },
      standbys: [
        ...links.map((link) => link.status(inSync.includes(link.node) && link.phase === "following")),
        ...[...lost].map((other) => ({ node: other, state: "lost" as const })),
      ],
      ...(failed.length > 0 ? { failed } : {}),
      ...(this.#standby.worn ? { worn: true as const } : {}),
      processes: primary?.parts.tracees.processes.size ?? this.#standby.clone?.processes ?? 0,
      threads: primary?.parts.tracees.threadCount ?? 0,
      ...(primary?.unprotectable ? { unprotectable: primary.unprotectable } : {}),
      ...(this.#primary.health ? { health: this.#primary.health } : {}),
      figures: (primary?.figures ?? NO_FIGURES).summary(),
    };
  }

  async checkpointNow(): Promise<CheckpointSummary> {
    const { epoch, term, at, stopUs, pages, bytes } = await this.#primary.need().checkpointNow();
    return { epoch, term, at, stopUs, pages, bytes };
  }

  checkpoints(): CheckpointSummary[] {
    return this.#primary.current?.figures.recent() ?? this.#standby.clone?.checkpoints() ?? [];
  }

  async addStandby(target: { node: string; host: string; port: number }): Promise<Record<string, never>> {
    const primary = this.#primary.need();
    primary.refuseSlow(target.node);
    const standby = await connectStandby(target, this.#identity.options);
    if (this.#primary.current !== primary) {
      standby.link.close();
      throw new OperatingError("not-primary", "The application has moved meanwhile");
    }
    primary.addStandby(standby);
    return {};
  }

  async switch(to: string): Promise<{ term: number; primary: string; stopMs: number }> {
    this.#primary.need();
    const begun = performance.now();
    const { term } = this.status();
    // Done when the other node lives and counts on nobody here any more; until then it may still be taken back.
    const done = this.#waiters.until((status) => status.state !== "switching");
    this.#shell.view.tell({ kind: "handOver", to });
    await done;
    const view = this.#shell.view.state.confirmed?.view;
    if (view && view.term > term && view.primary === to)
      return { term: view.term, primary: to, stopMs: Math.round((this.#primary.endedAt || performance.now()) - begun) };
    const where = view === undefined ? "" : `; "${this.#shell.config.application.name}" runs on "${view.primary}"`;
    throw new OperatingError("switch-failed", `The switch to "${to}" was given up${where}`, {
      remedy: `See why: understudy events --application ${this.#shell.config.application.name}`,
      details: { to },
    });
  }

  async promote(params: { checkpoint?: number; force: boolean }): Promise<{ term: number }> {
    if (this.#primary.current)
      throw new OperatingError("already-primary", `Node "${this.#shell.config.node}" runs the application already`);
    const { checkpoint, force } = params;
    const done = this.#waiters.until((status) => status.role === "primary" && status.state !== "going-live");
    this.#shell.view.tell({ kind: "promote", force, ...(checkpoint === undefined ? {} : { epoch: checkpoint }) });
    await done;
    return { term: this.status().term };
  }

  /** The view machine will not do what was asked for. */
  refused(action: { request: string; reason: string }): void {
    const error = new OperatingError(action.reason, `The request is refused: ${action.reason}`, {
      details: { request: action.request },
    });
    if (action.request === "start") throw error;
    this.#waiters.reject(error);
  }
}
