/** The instances on this node: those that this agent started and those that it found. */
import type { ApplicationSpec } from "../cluster/spec.ts";
import type { InstanceConfig } from "../instance/control.ts";
import type { AgentConfig } from "./config.ts";
import type { FilesFate } from "./desired.ts";
import type { EventLog } from "./events.ts";
import type { Layout } from "./layout.ts";
import { localNames, removeLeftovers } from "./leftovers.ts";
import { LocalInstance } from "./local-instance.ts";

export class Instances {
  readonly #config: AgentConfig;
  readonly #layout: Layout;
  readonly #events: EventLog;
  readonly #changed: () => void;
  readonly #instances = new Map<string, LocalInstance>();

  constructor(config: AgentConfig, layout: Layout, events: EventLog, changed: () => void) {
    this.#config = config;
    this.#layout = layout;
    this.#events = events;
    this.#changed = changed;
  }

  /** A live one. */
  get(application: string): LocalInstance | undefined {
    const instance = this.#instances.get(application);
    return instance?.alive ? instance : undefined;
  }

  list(): LocalInstance[] {
    return [...this.#instances.values()].filter((instance) => instance.alive);
  }

  /** Takes up what an earlier agent started and what still lives. */
  adoptAll(): LocalInstance[] {
    for (const name of localNames(this.#layout, this.#config.runDirectory)) {
      const instance = LocalInstance.adopt(this.#layout, name);
      if (!instance) continue;
      this.#keep(instance);
      this.#events.add({
        kind: "instance-adopted",
        application: name,
        message: `The instance of "${name}" (process ${instance.pid}) is taken up again`,
      });
    }
    return this.list();
  }

  start(spec: ApplicationSpec, begin: InstanceConfig["begin"]): LocalInstance {
    const config = this.#config;
    const instance = LocalInstance.start(this.#layout, config.instanceProgram, {
      application: spec,
      node: config.name,
      begin,
      stateDirectory: this.#layout.stateDirectory(spec.name),
      keptDirectory: this.#layout.keptDirectory(spec.name),
      runDirectory: config.runDirectory,
      controlSocket: this.#layout.controlSocket(spec.name),
      cgroup: this.#layout.applicationCgroup(spec.name),
      probeCgroup: this.#layout.probeCgroup(spec.name),
      bridge: config.bridge,
      store: config.store,
      tls: config.tls,
      listenHost: config.listen.host,
    });
    this.#keep(instance);
    this.#events.add({
      kind: "instance-started",
      application: spec.name,
      message: `An instance of "${spec.name}" is started (${begin})`,
      details: { begin, pid: instance.pid },
    });
    return instance;
  }

  /** Ends the instance (asking first, if `graceful`) and removes everything of the application from this node but perhaps its files. */
  async remove(application: string, graceful: boolean, files: FilesFate = "remove"): Promise<void> {
    const instance = this.get(application);
    if (instance && graceful) await instance.stop();
    else await instance?.kill();
    this.#instances.delete(application);
    await removeLeftovers(this.#layout, this.#config.runDirectory, application, files);
  }

  #keep(instance: LocalInstance): void {
    const { application } = instance;
    this.#instances.set(application, instance);
    instance.on("note", ({ at, kind, message, details }) => {
      this.#events.add({ at, kind, message, application, ...(details && { details }) });
      this.#changed();
    });
    instance.on("changed", () => {
      const { role, state, term } = instance.status!;
      this.#events.add({
        kind: "state-changed",
        application,
        message: `"${application}" is ${state} here as ${role} in term ${term}`,
        details: { role, state, term },
      });
      this.#changed();
    });
    instance.on("gone", () => {
      this.#events.add({
        kind: "instance-gone",
        application,
        message: `The instance of "${application}" (process ${instance.pid}) has ended`,
      });
      this.#changed();
    });
  }
}
