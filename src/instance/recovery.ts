/**
 * The primary's part when its application has crashed or hangs: silence; then the standbys in sync are told to go on from before, or
 * it is started anew, or it has ended, as its owner wishes (`restart`). What any of this asks of the record is the view machine's.
 */
import { decideRestart, type RestartDecision } from "../cluster/restart.ts";
import type { Primary } from "./primary.ts";
import type { InstanceShell } from "./shell.ts";
import type { StandbyLink } from "./standby-link.ts";

/** Between looks; orders are repeated as often: a standby may have been about to learn that it is in sync. */
const AGAIN_MS = 250;
/** Nobody lives with it by then: what the owner wishes next. */
const PATIENCE_MS = 10_000;

interface Failing {
  reason: string;
  timer: NodeJS.Timeout;
  decision: RestartDecision | undefined;
  /** When the decision was made. */
  since: number;
}

export class Recovery {
  readonly #shell: InstanceShell;
  readonly #primary: () => Primary | undefined;
  #failing: Failing | undefined;

  constructor(shell: InstanceShell, primary: () => Primary | undefined) {
    this.#shell = shell;
    this.#primary = primary;
  }

  get isUnderWay(): boolean {
    return this.#failing !== undefined;
  }

  /**
   * What runs here, if anything does, is no state to go on from any more.
   * @returns false: its owner does not want it restarted
   */
  begin(kind: string, reason: string, details: Record<string, unknown> = {}): boolean {
    const primary = this.#primary();
    if (primary === undefined || this.#shell.config.application.restart.on === "never") return false;
    if (this.#failing !== undefined) return true;
    // Nothing that the kernel does to its connections is to be seen by anybody.
    primary.parts.port.setPort("blocked");
    primary.crashed();
    this.#shell.note(kind, reason, details);
    const timer = setInterval(() => this.#look(), AGAIN_MS);
    this.#failing = { reason, timer, decision: undefined, since: 0 };
    this.#look();
    return true;
  }

  /** It lives again, here or elsewhere, or has ended. */
  close(): void {
    clearInterval(this.#failing?.timer);
    this.#failing = undefined;
  }

  #look(): void {
    const failing = this.#failing;
    const { view } = this.#shell;
    if (failing === undefined) return;
    // In a planned switch it is not taken notice of before that has come to its end.
    if (!this.#isKnown()) view.tell({ kind: "crashed" });
    if (!this.#isKnown() || this.#failing !== failing) return;
    const { role } = view.state;
    const late = performance.now() - failing.since > PATIENCE_MS;
    if (role.kind === "standby") {
      failing.since ||= performance.now();
      // Whoever has the term does not come to life, nor does anybody else.
      if (late && failing.since > 0) view.tell({ kind: "promote", force: false });
      return;
    }
    if (failing.decision === undefined || (late && isFromCheckpoint(failing.decision))) this.#decide(failing);
    this.#carryOut(failing);
  }

  #isKnown(): boolean {
    const { role } = this.#shell.view.state;
    return (role.kind === "primary" || role.kind === "standby") && role.crashed !== false;
  }

  #decide(failing: Failing): void {
    const { config, restarts } = this.#shell;
    const { restart } = config.application;
    // Those who were told and have not come to life in time are not counted on again.
    const first = failing.decision === undefined;
    const nodes = first ? this.#successors().map(({ node }) => node) : [];
    const decision = decideRestart(restart, restarts.history, nodes.length > 0, Date.now());
    failing.decision = decision;
    failing.since = performance.now();
    if (decision.step === undefined) {
      this.#shell.note("not-restarted", `${failing.reason}; it is not restarted: ${decision.why}`);
      return;
    }
    restarts.history = decision.history;
    const who = nodes.map((node) => `"${node}"`).join(" or ");
    const how =
      decision.step === "cold" ? "is started anew here" : `goes on with it on ${who}, ${decision.step} checkpoint`;
    const times = `restart ${decision.history.length} of ${restart.steps.length}`;
    const message = `${failing.reason}; it ${how} (${times} within ${restart.within} s)`;
    this.#shell.note("restarting", message, { step: decision.step, restart: decision.history.length, nodes });
  }

  #carryOut({ decision, reason }: Failing): void {
    const { view } = this.#shell;
    const { role } = view.state;
    if (decision === undefined || role.kind !== "primary") return;
    if (decision.step === undefined) {
      const why = `${reason}; not restarted: ${decision.why}`;
      view.tell({ kind: "end", reason: why, at: new Date().toISOString() });
    } else if (decision.step === "cold") view.tell({ kind: "startAgain" });
    else {
      const { step, history } = decision;
      for (const { link } of this.#successors())
        link.send({ type: "restart", order: { term: role.term, step, reason, history } });
    }
  }

  /** Standbys that hold every state that anybody has seen, and can be told. */
  #successors(): StandbyLink[] {
    const inSync = this.#shell.view.state.confirmed?.view?.inSync ?? [];
    const links = [...(this.#primary()?.links.values() ?? [])];
    return links.filter(({ node, phase }) => phase === "following" && inSync.includes(node));
  }
}

function isFromCheckpoint({ step }: RestartDecision): boolean {
  return step === "newest" || step === "older";
}
