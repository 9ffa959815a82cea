/** The primary's part of an instance: the application started, attached to or come to life here, until it ends here. */
import { phaseEnd } from "../checkpoint/phases.ts";
import type { EarlierMemory } from "../clone/earlier-memory.ts";
import { isCrash } from "../cluster/restart.ts";
import { putAside } from "../files/kept.ts";
import { OperatingError } from "../kernel/failure.ts";
import { resume } from "../kernel/trace.ts";
import { OutputHold, removeHoldOf } from "../network/hold.ts";
import { ApplicationInterface } from "../network/interface.ts";
import { Stage } from "../stage/stage.ts";
import { startProgram } from "../stage/start.ts";
import { type TracedProcess, Tracees } from "../tree/tracees.ts";
import type { HealthStatus } from "./control.ts";
import { diskThere, diskToStart } from "./disk.ts";
import { HealthWatch } from "./health-watch.ts";
import { copied } from "./memory-kept.ts";
import { type PidFile, readPidFile, removePidFile, startTicks, writePidFile } from "./pid-file.ts";
import { Primary } from "./primary.ts";
import type { PrimaryParts } from "./primary-parts.ts";
import { Recovery } from "./recovery.ts";
import { filesDirectoryOf, type InstanceShell } from "./shell.ts";
import { createPort } from "./standby.ts";
import { standsStill, unheed } from "./unheeded.ts";
import { startVolumes } from "./volumes.ts";

export class PrimaryRole {
  readonly #shell: InstanceShell;
  readonly #recovery: Recovery;
  #current: Primary | undefined;
  /** It is silent, and about to end here. */
  #leaving: { parts: PrimaryParts; reason: string; pids: number[] } | undefined;
  #health: HealthWatch | undefined;
  /** When the application was known to live elsewhere; 0: not yet. */
  endedAt = 0;

  constructor(shell: InstanceShell) {
    this.#shell = shell;
    this.#recovery = new Recovery(shell, () => this.#current);
  }

  get current(): Primary | undefined {
    return this.#current;
  }

  get health(): HealthStatus | undefined {
    return this.#health?.status;
  }

  /** Errors: `not-primary`. */
  need(): Primary {
    if (this.#current) return this.#current;
    const { node, application } = this.#shell.config;
    throw new OperatingError("not-primary", `Node "${node}" does not run "${application.name}"`);
  }

  begin(term: number): void {
    if (this.#shell.config.begin === "start") this.#start(term, 0);
    else this.#attach(term);
  }

  attachTerm(): number {
    return readPidFile(this.#shell.config.runDirectory, this.#shell.config.application.name)?.term ?? 1;
  }

  #start(term: number, epoch: number): void {
    const { application, cgroup } = this.#shell.config;
    const filesDirectory = filesDirectoryOf(this.#shell.config);
    const numbers = diskToStart(this.#shell.config);
    const stage = Stage.create({
      name: application.name,
      cgroup,
      filesDirectory,
      mounts: startVolumes({ application: application.name, volumes: application.volumes, filesDirectory }),
      clockOffsets: { monotonic: 0n, boottime: 0n },
      exitKill: false,
    });
    try {
      const port = createPort(this.#shell.config, stage, false);
      const hold = OutputHold.open(port);
      const tracees = new Tracees(stage.init, false);
      const pid = startProgram(stage, { ...application, logPath: `/var/log/understudy/${application.name}.log` });
      tracees.add(pid);
      this.become({
        application,
        filesDirectory,
        numbers,
        stage,
        tracees,
        port,
        hold,
        term,
        epoch,
      });
      port.setPort("forwarding");
      port.announce();
      resume(pid);
    } catch (error) {
      stage.destroy();
      throw error;
    }
  }

  #attach(term: number): void {
    const { tracees, port } = this.#adopt(term);
    port.setPort("forwarding");
    tracees.drain();
    this.#shell.note("attached", `Attached again to the running application (term ${term})`);
    const ended = "The program ended while no instance watched it";
    if (tracees.processes.size === 0 && !this.#recovery.begin("crashed", ended)) this.#tellEnd(ended);
  }

  /** The application that this process's predecessor left here; nothing of it leaves. Errors: `application-gone`. */
  #adopt(term: number): PrimaryParts {
    const { application, cgroup } = this.#shell.config;
    const known = this.#left();
    if (!known)
      throw new OperatingError("application-gone", `Application "${application.name}" does not run here any more`);
    const stage = Stage.attach(known.initPid, cgroup);
    const tracees = new Tracees(stage.init, false);
    tracees.attachAll();
    const options = {
      application: application.name,
      initPid: stage.init,
      bridge: this.#shell.config.bridge,
      address: application.address,
    };
    const port = ApplicationInterface.adopt(options);
    if (!port) throw new OperatingError("application-gone", `The network of application "${application.name}" is gone`);
    const hold = OutputHold.open(port);
    const epoch = Math.max(1, Date.now() - Date.parse(application.createdAt));
    const filesDirectory = filesDirectoryOf(this.#shell.config);
    const numbers = diskThere(this.#shell.config);
    const parts = { application, filesDirectory, numbers, stage, tracees, port, hold, term, epoch };
    this.become(parts);
    return parts;
  }

  /** Of an application that runs here; it may be a predecessor's. */
  #left(): PidFile | undefined {
    const { application, runDirectory } = this.#shell.config;
    const known = readPidFile(runDirectory, application.name);
    return known && startTicks(known.initPid) === known.initStartTicks ? known : undefined;
  }

  become(parts: PrimaryParts): void {
    const { tracees } = parts;
    tracees.onKilled = (process, signal) => this.#onKilled(process, signal);
    tracees.onEnding = (ending) => {
      if (tracees.processes.size > 0) return;
      const how = ending.signal ? `ended by signal ${ending.signal}` : `exited with code ${ending.code}`;
      const asked = ending.code === 0 ? [] : [...tracees.askedFor];
      const missed = asked.map((what) => `; it had asked for ${what}, which it cannot have`);
      this.#tellEnd(`The program ${how}${missed.join("")}`);
    };
    tracees.onInitEnd = () => this.#tellEnd("The application's init has ended");
    process.removeAllListeners("SIGCHLD");
    process.on("SIGCHLD", () => tracees.drain());
    this.#current = new Primary(parts, {
      tell: (event) => this.#shell.view.tell(event),
      rising: (node, next) => this.#shell.rising(node, next),
      note: (kind, message, details) => this.#shell.note(kind, message, details),
    });
    this.#health = new HealthWatch(this.#shell, this.#current, (reason) => this.#recovery.begin("hangs", reason));
    this.#writePidFile(parts, parts.term);
  }

  /** Its first process, or the oldest that is left, is ended: no longer anything to go on from. */
  #onKilled({ virtualPid }: TracedProcess, signal: number): void {
    const processes = [...(this.#current?.parts.tracees.processes.values() ?? [])];
    if (!isCrash(signal) || processes.some((other) => other.virtualPid < virtualPid)) return;
    this.#recovery.begin("crashed", `The program was ended by signal ${signal}`, { signal });
  }

  #tellEnd(reason: string): void {
    if (this.#recovery.isUnderWay) return;
    this.#shell.view.tell({ kind: "end", reason, at: new Date().toISOString() });
  }

  /** It crashed or hung, and its owner wants it from nothing: what is left of it ends, its files stay as they are. */
  startAgain(term: number, epoch: number): void {
    this.#lookAway();
    const primary = this.#current;
    if (!primary) return;
    this.#current = undefined;
    primary.close("it is started anew");
    unheed(primary.parts.tracees);
    this.#dismantle(primary.parts);
    try {
      this.#start(term, epoch);
    } catch (error) {
      this.#tellEnd(`It could not be started anew: ${(error as Error).message}`);
    }
  }

  /** How a successor of this process finds the application. */
  #writePidFile({ stage, port }: PrimaryParts, term: number): void {
    const { runDirectory, application } = this.#shell.config;
    const initStartTicks = startTicks(stage.init);
    if (initStartTicks === undefined) return;
    writePidFile(runDirectory, application.name, { initPid: stage.init, initStartTicks, term, veth: port.nodeEnd });
  }

  resume(term: number, reason: string): void {
    const primary = this.#current;
    if (!primary) return;
    if (this.#recovery.isUnderWay) {
      primary.parts.term = term;
      this.#writePidFile(primary.parts, term);
      return;
    }
    primary.parts.port.setPort("forwarding");
    primary.resume(term);
    this.#writePidFile(primary.parts, term);
    this.#shell.note("switch-abandoned", `The application goes on here: ${reason}`);
    phaseEnd("abortSwitch");
  }

  synchronise(node: string, stream: number): void {
    const { confirmed } = this.#shell.view.state;
    const primary = this.#current;
    if (!primary || !confirmed?.view) return;
    const { application, node: own } = this.#shell.config;
    const { view, revision } = confirmed;
    void primary.synchronise(node, {
      application: application.name,
      node: own,
      term: primary.term,
      view,
      revision,
      stream,
    });
  }

  /** Another node has the term but does not live yet: silence here, and everything kept. */
  standAside(): void {
    if (!this.#current && this.#shell.config.begin === "attach") this.#attach(this.attachTerm());
    this.#current?.parts.port.setPort("blocked");
    this.#current?.standAside();
    phaseEnd("postSwitch");
  }

  /** Silence first, then the application's end here. If it has ended for good, its files stay for the user, else for a clone here. */
  end(reason: string): void {
    this.#adoptToEnd();
    this.#fallSilent(reason);
    void this.#finishLeaving();
  }

  /**
   * As `end`, but before the application goes, what it has in memory is put aside for a clone that may come here. It stands still
   * meanwhile; where it cannot be stopped it ends at once.
   */
  async leave(reason: string): Promise<EarlierMemory | undefined> {
    this.#adoptToEnd();
    const primary = this.#current;
    if (!primary) return undefined;
    primary.parts.port.setPort("blocked");
    unheed(primary.parts.tracees);
    const stands = standsStill(primary.parts.tracees);
    this.#fallSilent(reason);
    const leaving = this.#leaving!;
    try {
      const over = this.#shell.view.state.confirmed?.view?.ended !== undefined;
      return stands && !over ? await copied(leaving.pids, () => this.#leaving === leaving) : undefined;
    } finally {
      if (this.#leaving === leaving) await this.#finishLeaving();
    }
  }

  /** Another node has taken over before this process knew of its predecessor's application: it would run on, unseen. */
  #adoptToEnd(): void {
    if (this.#current || this.#leaving || this.#shell.config.begin !== "attach") return;
    const known = this.#left();
    if (!known) return;
    try {
      this.#adopt(known.term ?? 1);
    } catch (error) {
      const { application, cgroup, runDirectory } = this.#shell.config;
      this.#shell.note("left-ended", `What a dead instance left of it is ended: ${(error as Error).message}`);
      Stage.attach(known.initPid, cgroup).destroy();
      removeHoldOf(application.name);
      removePidFile(runDirectory, application.name);
    }
  }

  #lookAway(): void {
    this.#recovery.close();
    this.#health?.close();
    this.#health = undefined;
  }

  #fallSilent(reason: string): void {
    this.#lookAway();
    const primary = this.#current;
    if (!primary) return;
    this.#current = undefined;
    this.endedAt = performance.now();
    const { parts } = primary;
    parts.port.setPort("blocked");
    primary.close(reason);
    unheed(parts.tracees);
    this.#leaving = { parts, reason, pids: [...parts.tracees.processes.keys()] };
  }

  async #finishLeaving(): Promise<void> {
    const leaving = this.#leaving;
    if (!leaving) return;
    this.#leaving = undefined;
    this.#dismantle(leaving.parts);
    const over = this.#shell.view.state.confirmed?.view?.ended !== undefined;
    const { config } = this.#shell;
    this.#shell.note("instance-ended", `The application does not run here any more: ${leaving.reason}`);
    if (!over) await putAside(filesDirectoryOf(config), config.keptDirectory);
  }

  #dismantle({ stage, port, hold, numbers }: PrimaryParts): void {
    hold.remove();
    stage.destroy();
    numbers?.close();
    port.remove();
    removePidFile(this.#shell.config.runDirectory, this.#shell.config.application.name);
  }
}
