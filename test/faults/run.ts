/** Brings one fault after the other to one Redis with two standbys, under clients that write a history. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Health } from "../../src/agent/api-types.ts";
import { AgentClient } from "../../src/agent/client.ts";
import type { Lab } from "../../src/lab/lab.ts";
import { startWorkload } from "../../workload/driver.ts";
import { RedisSite } from "../../workload/site.ts";
import { answersCome, assertOneCopy, COUNTERS, eventually } from "../system/faults/support.ts";
import { bring, emptyDisk, processesOf, type Repair, type Roles } from "./actions.ts";
import { claims, Terms, worstSilenceMs, wrongIn } from "./judge.ts";
import { reach } from "./phase.ts";
import { hasSwitched, isAnsweredMeanwhile, type Plan, planText } from "./plan.ts";

export const NODES = ["node-a", "node-b", "node-c"];
const CLIENTS = 20;
const MEGABYTES = 20;
const LOOK_EVERY_MS = 40;
const LOOK_LIMIT_MS = 1000;

export type Outcome = { plan: Plan; silenceMs: number; tookMs: number } & ({ ok: true } | { ok: false; why: string });

export interface Options {
  say: (text: string) => void;
  found?: (outcome: Outcome) => void;
}

export class FaultRun {
  readonly #lab: Lab;
  readonly #site: RedisSite;
  readonly #terms = new Terms();
  readonly #options: Options;

  constructor(lab: Lab, options: Options) {
    this.#lab = lab;
    this.#site = new RedisSite(lab);
    this.#options = options;
  }

  async begin(): Promise<void> {
    this.#terms.clear();
    await this.#site.protect({ standby: NODES.slice(1) });
    await this.#site.fill(MEGABYTES);
  }

  async run(plans: Iterable<Plan>): Promise<Outcome[]> {
    const outcomes: Outcome[] = [];
    for (const plan of plans) {
      const outcome = await this.#judged(plan);
      outcomes.push(outcome);
      this.#options.found?.(outcome);
    }
    return outcomes;
  }

  async #judged(plan: Plan): Promise<Outcome> {
    const begun = performance.now();
    const since = new Date().toISOString();
    const tookMs = () => Math.round(performance.now() - begun);
    try {
      const silenceMs = await this.#one(plan);
      this.#options.say(`✔ ${planText(plan)}: silent for ${silenceMs} ms, ${tookMs()} ms in all`);
      return { plan, silenceMs, tookMs: tookMs(), ok: true };
    } catch (error) {
      const why = messageOf(error);
      this.#options.say(`✘ ${planText(plan)}: ${why}`);
      await this.#tell(since);
      await this.#anew();
      return { plan, silenceMs: 0, tookMs: tookMs(), ok: false, why };
    }
  }

  /** @returns the worst silence, ms @throws what is wrong */
  async #one(plan: Plan): Promise<number> {
    const counters = await startWorkload("counters", this.#site.spawn, { ...COUNTERS, connections: CLIENTS });
    const watch = this.#watch();
    let repair: Repair = async () => {};
    try {
      await answersCome(counters);
      // Asked last: load may let a standby take over while the clients come.
      const { primary, standbys, term } = await this.#site.untilProtected({ standbys: NODES.length - 1 });
      const roles: Roles = { primary: primary!, standby: standbys[plan.seed % standbys.length]!.node, nodes: NODES };
      await counters.mark("fault");
      repair = await this.#strike(plan, roles, term);
      if (isAnsweredMeanwhile(plan)) await answersCome(counters);
      await sleep(plan.lastsMs);
      await repair();
      await answersCome(counters);
      await this.#site.untilProtected({ standbys: NODES.length - 1 });
      await assertOneCopy(this.#site);
      const history = await counters.stop();
      const wrong = [...wrongIn(history), ...(await watch.stop())];
      if (wrong.length > 0) throw new Error(wrong.join("; "));
      return worstSilenceMs(history, "fault");
    } finally {
      await watch.stop();
      await counters.kill();
      await repair();
    }
  }

  async #strike(plan: Plan, before: Roles, term: number): Promise<Repair> {
    // After the switch the two have changed places, and one that is alone has no promise to keep.
    const roles =
      plan.phase === "after the switch" ? { ...before, primary: before.standby, standby: before.primary } : before;
    const processes = plan.phase === "after the switch" ? undefined : await processesOf(this.#lab, roles);
    const { letGo, ended } = await reach(this.#site, plan, before);
    try {
      // By the new primary's own word: the record counts on others as well until that one lives and drops them.
      if (hasSwitched(plan)) await this.#site.untilProtected({ term: term + 1 });
      const repair = await bring(this.#lab, plan, roles, processes ?? (await processesOf(this.#lab, roles)));
      if (!isFrozenThere(plan)) letGo();
      // Its end needs the repair where the fault is in its way.
      return async () => {
        letGo();
        await repair();
        await ended;
      };
    } catch (error) {
      letGo();
      throw error;
    }
  }

  /** Asks all agents again and again who is primary in which term. */
  #watch(): { stop: () => Promise<string[]> } {
    const wrong: string[] = [];
    let ended = false;
    const look = async () => {
      while (!ended) {
        const healths = await Promise.allSettled(NODES.map((node) => this.#health(node)));
        for (const one of healths) {
          if (one.status === "rejected") continue;
          for (const instance of one.value.instances) {
            if (instance.application !== this.#site.name || !claims(instance)) continue;
            const finding = this.#terms.claimed({ node: one.value.name, term: instance.term });
            if (finding !== undefined && !wrong.includes(finding)) wrong.push(finding);
          }
        }
        await sleep(LOOK_EVERY_MS);
      }
    };
    const looked = look();
    return {
      stop: async () => {
        ended = true;
        await looked;
        return wrong;
      },
    };
  }

  #health(node: string): Promise<Health> {
    const agent = AgentClient.unix(this.#lab.agentSocket(node));
    return agent.json<Health>("GET", "/v1/health", { timeoutMs: LOOK_LIMIT_MS });
  }

  async #tell(since: string): Promise<void> {
    const events = await this.#site.events().catch(() => []);
    for (const { at, node, kind, message } of events.filter(({ at }) => at >= since).slice(-40))
      this.#options.say(`  ${at} ${node} ${kind}: ${message}`);
  }

  /** After a failure all is mended and the application begun anew, so that what follows is judged by itself. */
  async #anew(): Promise<void> {
    await this.#lab.heal();
    await this.#site.allOn();
    for (const node of NODES) emptyDisk(this.#lab, node);
    if ((await this.#lab.status()).store === "etcd") for (const node of NODES) await this.#lab.storeOn(node);
    await eventually("the application is stopped", async () => {
      await this.#site.stop();
      return true;
    });
    await this.begin();
  }
}

/** The process that was halted is the one that the fault freezes. */
function isFrozenThere({ fault, halt }: Plan): boolean {
  return (
    (fault === "capture frozen" && halt?.who === "primary") || (fault === "clone frozen" && halt?.who === "standby")
  );
}

function messageOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? `${message}: ${messageOf(cause)}` : message;
}
