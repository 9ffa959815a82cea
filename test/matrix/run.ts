/**
 * Runs the matrix: many applications side by side in one lab, each put through its events while others are through theirs, and
 * one power-off of a node for all that it runs.
 */
import type { AgentEvent } from "../../src/agent/events.ts";
import { Application } from "./application.ts";
import { type Cluster, Wrong } from "./cluster.ts";
import { EVENTS, type Event, POWER_OFF } from "./events.ts";
import type { Run } from "./programs.ts";

/** So many applications are being moved about at a time, the others go on beside. */
const MOVED_AT_A_TIME = 4;
const FIRST_ADDRESS = 20;
/** What an agent or instance tells when something has failed, rather than been asked for. */
const FAILURES = new Set([
  "injected",
  "go-live-failed",
  "state-lost",
  "clone-lost",
  "clone-failed",
  "failed",
  "synchronisation-failed",
  "checkpoint-failed",
  "internal",
]);

/** What a phase says that a test lets fail (src/checkpoint/phases.ts): a clone that fails for another reason has failed. */
const INJECTED = "A test lets the phase";

/** So often is begun anew what load has come into. */
const TRIES = 4;

export type Cell = { ok: true } | { ok: false; why: string } | { skipped: string };

export interface Result {
  run: Run;
  /** By the event's name. */
  cells: Map<string, Cell>;
}

export interface Options {
  /** By name; all when undefined. */
  events: readonly string[] | undefined;
  /** Applications whose primary one node runs at a time; it holds as many clones of others beside. */
  perNode: number;
  say: (text: string) => void;
  /** What a batch came to, as soon as it is known. */
  found?: (results: readonly Result[]) => void;
}

/** `size` at a time; each begins when one of those before has ended. */
async function inParallel<T>(items: readonly T[], size: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const workers = Array.from({ length: Math.min(size, queue.length) }, async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await work(next);
  });
  await Promise.all(workers);
}

interface Entry {
  application: Application;
  result: Result;
  /** Why it is not there to be put through anything. */
  dead: string | undefined;
}

class Batch {
  readonly #cluster: Cluster;
  readonly #options: Options;
  readonly #entries: Entry[];

  constructor(cluster: Cluster, runs: readonly Run[], options: Options) {
    const { nodes } = cluster;
    this.#cluster = cluster;
    this.#options = options;
    this.#entries = runs.map((run, i) => ({
      result: { run, cells: new Map() },
      dead: undefined,
      application: new Application(cluster, run, {
        home: nodes[i % nodes.length]!,
        standby: nodes[(i + 1) % nodes.length]!,
        address: `10.77.0.${FIRST_ADDRESS + i}/24`,
      }),
    }));
  }

  async run(): Promise<Result[]> {
    const entries = this.#entries;
    await inParallel(entries, MOVED_AT_A_TIME, (entry) => this.#begin(entry));
    this.#options.say(`${entries.length} applications are protected`);
    const events = EVENTS.filter(({ name }) => this.#isWanted(name));
    await inParallel(entries, MOVED_AT_A_TIME, async (entry) => {
      for (const event of events) await this.#cell(entry, event);
      const failed = [...entry.result.cells.values()].filter((cell) => "why" in cell).length;
      this.#options.say(`${failed === 0 ? "✔" : "✘"} ${entry.result.run.label}`);
    });
    if (this.#isWanted(POWER_OFF)) await this.#powerOffs();
    await inParallel(entries, MOVED_AT_A_TIME, ({ application }) => this.#stop(application));
    return entries.map(({ result }) => result);
  }

  #isWanted(event: string): boolean {
    return this.#options.events?.includes(event) ?? true;
  }

  async #begin(entry: Entry): Promise<void> {
    const { application } = entry;
    for (let tries = 1; ; tries++) {
      const since = new Date().toISOString();
      try {
        await application.protect();
        await application.check();
        entry.dead = undefined;
        return;
      } catch (error) {
        entry.dead = `it could not be protected: ${(error as Error).message}`;
      }
      const again = tries < TRIES && (await this.#isDisturbed(application, since));
      this.#options.say(`${again ? "↻" : "✘"} ${entry.result.run.label}: ${entry.dead}`);
      if (!again) return this.#tell(application);
      await this.#stop(application);
    }
  }

  /** Whether load has made somebody silent who was well: then what failed says nothing, and is done again. */
  async #isDisturbed(application: Application, since: string): Promise<boolean> {
    const events = await application.events(since).catch(() => []);
    return events.some(({ details }) => details?.how === "silent");
  }

  async #stop(application: Application): Promise<void> {
    await application.stop().catch((failure: Error) => this.#options.say(`  not stopped: ${failure.message}`));
  }

  async #cell(entry: Entry, event: Event): Promise<void> {
    const { cells, run } = entry.result;
    const unsuited = run.unsuited.get(event.name);
    if (unsuited !== undefined) cells.set(event.name, { skipped: unsuited });
    else if (entry.dead !== undefined) cells.set(event.name, { ok: false, why: entry.dead });
    else {
      await this.#attempt(entry, event.name, () => this.#undisturbed(entry, event));
      if (!cells.has(event.name)) cells.set(event.name, { ok: true });
    }
  }

  /** After a failure the application is begun anew, so that what follows is judged by itself. */
  async #attempt(entry: Entry, event: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const why = (error as Error).message;
      entry.result.cells.set(event, { ok: false, why });
      this.#options.say(`✘ ${entry.result.run.label}, ${event}: ${why}`);
      await this.#tell(entry.application);
      await this.#stop(entry.application);
      await this.#begin(entry);
    }
  }

  /** The event, again with the program begun anew when it failed and load had come into it. */
  async #undisturbed(entry: Entry, event: Event): Promise<void> {
    for (let tries = 1; ; tries++) {
      const since = new Date().toISOString();
      try {
        await this.#event(entry.application, event);
        return;
      } catch (error) {
        if (tries === TRIES || !(await this.#isDisturbed(entry.application, since))) throw error;
        this.#options.say(`↻ ${entry.result.run.label}, ${event.name}: ${(error as Error).message}`);
        await this.#stop(entry.application);
        await this.#begin(entry);
        if (entry.dead !== undefined) throw new Error(entry.dead, { cause: error });
      }
    }
  }

  async #tell(application: Application): Promise<void> {
    const events = await application.events("").catch(() => []);
    for (const { at, node, kind, message } of events.slice(-12))
      this.#options.say(`  ${at} ${node} ${kind}: ${message}`);
  }

  async #event(application: Application, event: Event): Promise<void> {
    const since = new Date().toISOString();
    await event.run(application);
    await this.#judge(application, since, event.brings);
  }

  /** That the program found nothing wrong is not enough when a clone of it failed and another had to be made. */
  async #judge(application: Application, since: string, brings: readonly string[]): Promise<void> {
    const events = await application.events(since);
    const isMeant = ({ kind, message }: AgentEvent) =>
      brings.includes(kind) && (kind !== "go-live-failed" || message.includes(INJECTED));
    const bad = events.find((event) => FAILURES.has(event.kind) && !isMeant(event));
    if (bad) throw new Wrong(`${bad.kind}: ${bad.message}`);
  }

  /** One node after another loses power, until every application has lost its primary so. */
  async #powerOffs(): Promise<void> {
    for (const entry of this.#entries) await this.#excuse(entry);
    const left = new Set(this.#living());
    for (const node of this.#cluster.nodes) await this.#powerOff(node, left);
    // Those that load has moved to a node that had its turn.
    for (let entry = this.#next(left); entry !== undefined; entry = this.#next(left)) {
      const node = await entry.application.primary();
      await this.#powerOff(node, left);
    }
  }

  /** Those that cannot be there when the lights go out. */
  async #excuse(entry: Entry): Promise<void> {
    const { cells, run } = entry.result;
    const unsuited = run.unsuited.get(POWER_OFF);
    if (unsuited !== undefined) {
      cells.set(POWER_OFF, { skipped: unsuited });
      await this.#stop(entry.application);
      entry.dead = unsuited;
    } else if (entry.dead !== undefined) cells.set(POWER_OFF, { ok: false, why: entry.dead });
  }

  /** That are there, and have not failed in this. */
  #living(): Entry[] {
    return this.#entries.filter(({ dead }) => dead === undefined);
  }

  #next(left: ReadonlySet<Entry>): Entry | undefined {
    return this.#living().find((entry) => left.has(entry));
  }

  /** All that a node runs, and all that has its clone there. @param left loses those that ran there */
  async #powerOff(node: string, left: Set<Entry>): Promise<void> {
    const hit = new Set<Entry>();
    const all = (work: (entry: Entry) => Promise<void>) =>
      inParallel(this.#living(), MOVED_AT_A_TIME, (entry) => this.#attempt(entry, POWER_OFF, () => work(entry)));
    await all(async ({ application }) => {
      await application.protected();
      await application.check();
      await application.checkpoint();
    });
    await all(async ({ application }) => void (await application.protected()));
    await all(async (entry) => {
      if ((await entry.application.primary()) === node) hit.add(entry);
    });
    const since = new Date().toISOString();
    await this.#cluster.powerOff(node);
    this.#options.say(`"${node}" is off: ${hit.size} of ${this.#entries.length} applications ran there`);
    const alone = new Set<Entry>();
    await all(async (entry) => {
      const { application } = entry;
      if (await application.isAloneOn(node)) {
        alone.add(entry);
        hit.delete(entry);
        return;
      }
      await application.hasLeft(node);
      await application.check();
      await application.check();
    });
    await this.#cluster.powerOn(node);
    // Load had taken its standby a moment before: nobody could go on with it. Its turn comes again.
    for (const entry of alone) {
      await this.#stop(entry.application);
      await this.#begin(entry);
    }
    await all(async (entry) => {
      await entry.application.protected();
      await entry.application.check();
      await this.#judge(entry.application, since, []);
      if (!hit.has(entry)) return;
      left.delete(entry);
      if (!entry.result.cells.has(POWER_OFF)) entry.result.cells.set(POWER_OFF, { ok: true });
    });
    for (const entry of this.#entries) if (entry.result.cells.has(POWER_OFF)) left.delete(entry);
  }
}

/** All runs through all wanted events, as many at a time as the nodes have room for. */
export async function runMatrix(cluster: Cluster, runs: readonly Run[], options: Options): Promise<Result[]> {
  const most = options.perNode * cluster.nodes.length;
  const batches = Math.ceil(runs.length / most);
  const size = Math.ceil(runs.length / batches);
  const results: Result[] = [];
  for (let i = 0; i < batches; i++) {
    options.say(`batch ${i + 1} of ${batches}`);
    const found = await new Batch(cluster, runs.slice(i * size, (i + 1) * size), options).run();
    options.found?.(found);
    results.push(...found);
  }
  return results;
}
