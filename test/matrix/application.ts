/** A test program as an application of the lab: asked to check itself, moved about, let down by a phase of its life. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import type { ApplicationReport, CheckpointSummary, StreamLine, SwitchResult } from "../../src/agent/api-types.ts";
import type { AgentEvent } from "../../src/agent/events.ts";
import type { Phase } from "../../src/checkpoint/phases.ts";
import { ControlClient } from "../../src/instance/client.ts";
import { fromFailure, OperatingError } from "../../src/kernel/failure.ts";
import { readStatus, statusField } from "../../src/kernel/procfs.ts";
import { labPlaces } from "../../src/lab/layout.ts";
import { childrenOf } from "../../src/tree/descendants.ts";
import { programPath } from "../support/programs.ts";
import { type Cluster, until, Wrong } from "./cluster.ts";
import type { Run } from "./programs.ts";

/** The program's first process, as it sees itself; 1 is the init. */
const FIRST_PROCESS = "2";
/**
 * On a machine that others load a standby is late for a moment, or the primary is: the standby is lost, or takes over. That harms
 * nobody, but what was asked for then has to be asked for again.
 */
const TRIES = 10;
const NOT_NOW = new Set([
  ...["not-in-sync", "no-standby", "not-primary", "primary-unreachable", "busy", "timeout"],
  ...["no-instance", "instance-gone", "instance-ended", "already-primary"],
]);

/** A phase that is armed and not gone through by then: load has led the application another way. */
const FAIL_LIMIT_MS = 60_000;

export class Application {
  readonly run: Run;
  readonly #cluster: Cluster;
  readonly #home: string;
  readonly #standby: string;
  readonly #address: string;
  /** Where it ran when last heard of: that agent knows most. */
  #last: string;
  #log: { init: number; fd: number } | undefined;

  constructor(cluster: Cluster, run: Run, places: { home: string; standby: string; address: string }) {
    this.#cluster = cluster;
    this.run = run;
    this.#home = places.home;
    this.#last = places.home;
    this.#standby = places.standby;
    this.#address = places.address;
  }

  get name(): string {
    return this.run.application;
  }

  /** Starts it under protection, in sync and ready. */
  async protect(): Promise<void> {
    const body = {
      name: this.name,
      command: [programPath(this.run.program), ...this.run.arguments],
      address: this.#address,
      standby: [this.#standby],
    };
    for await (const line of this.#cluster
      .agent(this.#home)
      .lines<StreamLine<ApplicationReport>>("POST", "/v1/applications", { body })) {
      if ("error" in line) throw fromFailure(line.error);
    }
    await until(`"${this.name}" is ready`, async () => {
      const [first] = this.#lines(await this.#init());
      if (first !== undefined && first !== "ready") throw new Wrong(first);
      return first;
    });
  }

  /** Ends it everywhere; nothing to do when there is none. */
  async stop(): Promise<void> {
    this.#closeLog();
    try {
      await this.#ask("DELETE", "");
    } catch (error) {
      if (!(error instanceof OperatingError) || error.code !== "application-unknown") throw error;
    }
  }

  #ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    const first = this.#last;
    return this.#cluster.ask<T>(method, `/v1/applications/${this.name}${path}`, { body, first });
  }

  async report(): Promise<ApplicationReport> {
    const report = await this.#ask<ApplicationReport>("GET", "");
    if (report.ended) {
      const last = this.#log && this.#lines(this.#log.init).at(-1);
      throw new Wrong(`${report.ended.reason}${last === undefined ? "" : `: ${last}`}`);
    }
    this.#last = report.primary ?? this.#last;
    return report;
  }

  async primary(): Promise<string> {
    const { primary } = await this.report();
    if (primary === null) throw new Error("It has no primary");
    return primary;
  }

  /** Runs, and a standby is in sync. */
  protected(): Promise<ApplicationReport & { primary: string }> {
    return until(`"${this.name}" is protected`, async () => {
      const report = await this.report();
      const inSync = report.standbys.some(({ state }) => state === "in-sync");
      return report.state === "protected" && inSync && report.primary
        ? { ...report, primary: report.primary }
        : undefined;
    });
  }

  /** Lives on this node, protected or not. */
  async runsOn(node: string): Promise<void> {
    await until(`"${this.name}" runs on "${node}"`, async () => ((await this.#livesOn()) === node ? node : undefined));
  }

  /** Lives on another node. */
  async hasLeft(node: string): Promise<void> {
    await until(`"${this.name}" runs elsewhere than on "${node}"`, async () => {
      const on = await this.#livesOn();
      return on === node ? undefined : on;
    });
  }

  /** The record names this node, which is off, and nobody who could take over. */
  async isAloneOn(node: string): Promise<boolean> {
    const { primary, inSync } = await this.report();
    return primary === node && inSync.length === 0;
  }

  async #livesOn(): Promise<string | undefined> {
    const { primary, instance } = await this.report();
    const lives = instance?.role === "primary" && instance.state !== "going-live";
    return lives && primary !== null ? primary : undefined;
  }

  /** The init of the living copy, pid on this machine. */
  async #init(): Promise<number> {
    const { instance, state } = await this.report();
    if (instance?.role !== "primary" || instance.initPid === 0) throw new Error(`It is ${state}`);
    return instance.initPid;
  }

  /** What the copy under this init has printed in all its lives; also once it has ended and its files are gone. */
  #lines(init: number): string[] {
    if (this.#log?.init !== init) {
      const fd = openLog(`/proc/${init}/root/var/log/understudy/${this.name}.log`);
      if (fd === undefined) return [];
      this.#closeLog();
      this.#log = { init, fd };
    }
    return readAll(this.#log.fd).split("\n").filter(Boolean);
  }

  #closeLog(): void {
    if (this.#log) closeSync(this.#log.fd);
    this.#log = undefined;
  }

  /**
   * Lets the program check itself (SIGUSR1). A copy that is left in the middle, because load made a standby take over, takes
   * the question or its answer with it: then the next one is asked. @throws what it says is wrong, or how it has ended
   */
  async check(): Promise<void> {
    while (!(await this.#checkHere()));
  }

  /** False: it runs elsewhere by now. */
  async #checkHere(): Promise<boolean> {
    const { init, before } = await until(`"${this.name}" can be asked`, async () => {
      const init = await this.#init();
      const before = this.#lines(init).length;
      const first = childrenOf(init).find((pid) =>
        statusField(readStatus(pid), "NSpid").endsWith(`\t${FIRST_PROCESS}`),
      );
      if (first === undefined) throw new Error("Its first process is not there");
      process.kill(first, "SIGUSR1");
      return { init, before };
    });
    return until(`"${this.name}" has checked itself`, async () => {
      if (this.#hasAnswered(init, before)) return true;
      return (await this.#init()) === init ? undefined : false;
    });
  }

  #hasAnswered(init: number, before: number): boolean {
    const lines = this.#lines(init).slice(before);
    const wrong = lines.find((line) => line.startsWith("wrong"));
    if (wrong !== undefined) throw new Wrong(wrong);
    return lines.includes("ok");
  }

  /** Taken now, and held by the standby. */
  checkpoint(): Promise<CheckpointSummary> {
    return this.#whenProtected(() => this.#ask<CheckpointSummary>("POST", "/checkpoints"));
  }

  /** Planned switch to the other node; returns where it runs now. */
  switch(): Promise<string> {
    return this.#whenProtected(async (to) => {
      await this.#ask<SwitchResult>("POST", "/switch", { to });
      return to;
    });
  }

  /** Asks again when load alone is in the way. @param ask gets the standby's name */
  async #whenProtected<T>(ask: (standby: string) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      const { standbys } = await this.protected();
      try {
        return await ask(standbys.find(({ state }) => state === "in-sync")!.node);
      } catch (error) {
        if (!(error instanceof OperatingError) || !NOT_NOW.has(error.code) || tries === TRIES) throw error;
      }
    }
  }

  /** A planned switch that is to fail: the failure, or undefined when it was made all the same. */
  async switchFailing(to: string): Promise<unknown> {
    return this.#ask<SwitchResult>("POST", "/switch", { to }).then(
      () => undefined,
      (error: unknown) => error ?? "unknown",
    );
  }

  /** Arms failures of phases in the instance on a node. `made` resolves when all have been made. */
  async fail(node: string, phases: Phase[]): Promise<{ made: Promise<void> } & Disposable> {
    const client = await ControlClient.connect(
      `${labPlaces(this.#cluster.lab.name).runDirectory}/${node}/${this.name}.sock`,
    );
    const left = new Set<unknown>(phases);
    const made = new Promise<void>((resolve, reject) => {
      client.on("note", ({ kind, details }) => {
        if (kind === "failure-injected") left.delete(details?.phase);
        if (left.size === 0) resolve();
      });
      client.on("close", () => reject(new Error(`The instance ended before ${[...left].join(", ")} failed`)));
    });
    const late = new Error(`The phases ${phases.join(", ")} were not gone through within ${FAIL_LIMIT_MS / 1000} s`);
    const armed = performance.now();
    const timer = setTimeout(() => client.close(), FAIL_LIMIT_MS);
    const inTime = made.catch((error: unknown) => {
      throw left.size > 0 && performance.now() - armed > FAIL_LIMIT_MS ? late : error;
    });
    inTime.catch(() => {});
    await client.call("fail", { phases });
    return {
      made: inTime,
      [Symbol.dispose]: () => {
        clearTimeout(timer);
        client.close();
      },
    };
  }

  /** What happened to it since, on all nodes that are on. */
  async events(since: string): Promise<AgentEvent[]> {
    const events = await this.#cluster.ask<AgentEvent[]>("GET", `/v1/events?application=${this.name}`);
    return events.filter(({ at }) => at >= since);
  }
}

function openLog(path: string): number | undefined {
  try {
    return openSync(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function readAll(fd: number): string {
  const bytes = Buffer.alloc(fstatSync(fd).size);
  return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, 0)).toString();
}
