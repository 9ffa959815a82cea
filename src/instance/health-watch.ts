/** Probes the application that runs here, one probe after the other, and notices when it hangs. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Application } from "../cluster/application.ts";
import { type HealthState, judgeProbe, type ProbeResult, startHealth } from "../cluster/health.ts";
import { describeView } from "../cluster/view.ts";
import type { HealthStatus } from "./control.ts";
import { probeExec } from "./exec-probe.ts";
import { probeHttp, probeTcp } from "./network-probe.ts";
import { Patience } from "./patience.ts";
import type { Primary } from "./primary.ts";
import type { InstanceShell } from "./shell.ts";

/** How soon a changed specification is noticed at the latest. */
const LOOK_MS = 500;
/** As long as there is nothing to do. */
const IDLE_LOOK_MS = 3000;

export class HealthWatch {
  readonly #shell: InstanceShell;
  readonly #primary: Primary;
  readonly #onHang: (reason: string) => boolean;
  readonly #ended = new AbortController();
  #state: HealthState = startHealth(performance.now());
  #told = false;

  /** @param onHang what to do; false: its owner wants nothing done */
  constructor(shell: InstanceShell, primary: Primary, onHang: (reason: string) => boolean) {
    this.#shell = shell;
    this.#primary = primary;
    this.#onHang = onHang;
    void this.#run();
  }

  close(): void {
    this.#ended.abort();
  }

  get status(): HealthStatus | undefined {
    const { probe } = this.#spec;
    if (probe === "none") return undefined;
    const { passed, failures, why } = this.#state;
    const state = this.#told ? "hangs" : failures > 0 ? "failing" : passed ? "passing" : "unknown";
    return { probe, state, failures, ...(why !== undefined && { why }) };
  }

  get #spec(): Application["health"] {
    return this.#shell.config.application.health;
  }

  async #run(): Promise<void> {
    const { signal } = this.#ended;
    let spec = this.#spec;
    let dueAt = performance.now() + spec.interval * 1000;
    while (!signal.aborted) {
      if (this.#spec !== spec) {
        spec = this.#spec;
        this.#state = startHealth(performance.now());
        dueAt = performance.now() + spec.interval * 1000;
      }
      const waitMs = spec.probe === "none" ? IDLE_LOOK_MS : Math.min(LOOK_MS, dueAt - performance.now());
      if (waitMs > 0) {
        await sleep(waitMs, undefined, { signal, ref: false }).catch(() => {});
        continue;
      }
      dueAt = performance.now() + spec.interval * 1000;
      const result = await this.#probe(spec);
      if (!signal.aborted) this.#judge(result, spec);
    }
  }

  #judge(result: ProbeResult, spec: Application["health"]): void {
    const { state, hangs } = judgeProbe(this.#state, result, spec, performance.now());
    this.#state = state;
    if (this.#told && state.failures === 0 && state.passed) {
      this.#told = false;
      this.#shell.note("healthy-again", `The ${spec.probe} probe passes again`);
    }
    if (!hangs) return;
    this.#told = true;
    const times = state.failures === 1 ? "" : `, ${state.failures} times in a row`;
    const reason = `The ${spec.probe} probe failed${times}: ${state.why}`;
    if (!this.#onHang(reason)) this.#shell.note("hangs", reason);
  }

  /** A probe for which this process was too late, or output waits for others than the application, says nothing. */
  async #probe(spec: Application["health"]): Promise<ProbeResult> {
    const patience = new Patience(spec.timeout * 1000);
    if (this.#isHeld()) return "void";
    const done = this.#primary.visited();
    try {
      const why = await this.#ask(spec, patience);
      if (why === undefined) return { passed: true };
      return patience.starved || this.#isHeld() ? "void" : { passed: false, why };
    } catch (error) {
      this.#shell.note("probe-failed", `The ${spec.probe} probe cannot be made: ${(error as Error).message}`);
      return "void";
    } finally {
      done();
    }
  }

  #ask(spec: Application["health"], patience: Patience): Promise<string | undefined> {
    const { stage } = this.#primary.parts;
    const { application, probeCgroup: cgroup } = this.#shell.config;
    const target = { stage, host: application.address.split("/")[0]!, port: spec.port };
    const { environment, workingDirectory } = application;
    switch (spec.probe) {
      case "tcp":
        return probeTcp(target, patience);
      case "http":
        return probeHttp(target, spec.path, patience);
      case "exec":
        return probeExec({ stage, command: spec.command, environment, workingDirectory, cgroup }, patience);
      case "none":
        return Promise.resolve(undefined);
    }
  }

  #isHeld(): boolean {
    const { state } = describeView(this.#shell.view.state);
    const flows = state === "running" || state === "protected";
    return !flows || this.#primary.isFrozen || this.#primary.unprotectable !== undefined;
  }
}
