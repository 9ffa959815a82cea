/** The primary's side of one standby: its connection, how far it is, whether it lives. */
import { connect, type TLSSocket } from "node:tls";
import { type DetectorState, detectorDefaults, heartbeat, startDetector, tick } from "../cluster/detector.ts";
import { type MutualTlsOptions, peerName } from "../cluster/tls.ts";
import type { Clocks } from "../kernel/clocks.ts";
import { type Failure, fromFailure, OperatingError } from "../kernel/failure.ts";
import { type Hello, type Message, STREAM_VERSION } from "../replication/frames.ts";
import { Link } from "../replication/link.ts";
import { freshPace, type Pace } from "../replication/pace.ts";
import type { StandbyStatus } from "./control.ts";
import type { FirstCopy } from "./first-copy.ts";
import { HeldByStandby } from "./held-by-standby.ts";
import type { ProgramSupply } from "./program-supply.ts";

/** A standby whose machine does not answer is given more time than a primary: while it is waited for, output is only late. */
const STANDBY_FLOOR_MS = 250;
/** Between a standby's heartbeats: it is given more time, and an idle application shall cost little. */
export const STANDBY_HEARTBEAT_MS = 60;
const CONNECT_MS = 5000;
/** A clone that has been greeted and neither accepts nor refuses, and gives no sign of life for so long, is given up. */
const GREET_MS = 5000;

export class StandbyLink {
  readonly node: string;
  readonly link: Link;
  /**
   * `greeting`: hello sent; `waiting`: accepted; `copying`: first copy under way; `joining`: the next checkpoint is its first;
   * `following`: gets every checkpoint.
   */
  phase: "greeting" | "waiting" | "copying" | "joining" | "following" = "greeting";
  /** The first copy, while `copying`. */
  copy: FirstCopy | undefined;
  /** From the first copy on. */
  programs: ProgramSupply | undefined;
  /** Memory of an earlier clone there. */
  readonly held: HeldByStandby;
  acknowledgedEpoch = 0;
  acknowledgedAt = 0;
  pace: Pace = freshPace;
  #detector: DetectorState;

  constructor(node: string, link: Link) {
    this.node = node;
    this.link = link;
    this.held = new HeldByStandby(link);
    this.#detector = startDetector(performance.now(), {
      unansweredFloorMs: STANDBY_FLOOR_MS,
      heartbeatMs: STANDBY_HEARTBEAT_MS,
    });
  }

  /** Any message is a sign of life. */
  alive(): void {
    this.#detector = heartbeat(this.#detector, performance.now());
  }

  /** Called every tick; whether the standby gives no sign of life. */
  suspected(): boolean {
    const now = performance.now();
    const { state, suspected } = tick(this.#detector, now, this.link.isUnanswered(now));
    this.#detector = state;
    return suspected;
  }

  status(inSync: boolean): StandbyStatus {
    const synchronisation = this.copy?.status();
    return {
      node: this.node,
      state: inSync ? "in-sync" : this.phase === "greeting" ? "connecting" : "synchronising",
      ...(synchronisation ? { remainingBytes: synchronisation.remainingBytes, synchronisation } : {}),
      ...(this.acknowledgedEpoch
        ? { acknowledgedEpoch: this.acknowledgedEpoch, lagMs: Math.round(performance.now() - this.acknowledgedAt) }
        : {}),
    };
  }
}

export const TICK_MS = detectorDefaults.tickMs;
/** Between a primary's heartbeats. */
export const HEARTBEAT_MS = detectorDefaults.heartbeatMs;

/** Connects to the clone on a node. Errors: `clone-unreachable`, `foreign-certificate`. */
export async function connectStandby(
  target: { node: string; host: string; port: number },
  tls: MutualTlsOptions,
): Promise<StandbyLink> {
  const socket = await dial(target, tls);
  const peer = peerName(socket);
  if (peer !== target.node) {
    socket.destroy();
    throw new OperatingError(
      "foreign-certificate",
      `${target.host}:${target.port} is "${peer}" by its certificate, not "${target.node}"`,
    );
  }
  return new StandbyLink(target.node, new Link(socket, target.node));
}

function dial(target: { node: string; host: string; port: number }, tls: MutualTlsOptions): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    // Who the peer is stands in its certificate's name, checked by the caller; its address may be any.
    const socket = connect({ host: target.host, port: target.port, ...tls, checkServerIdentity: () => undefined });
    socket.setTimeout(CONNECT_MS, () => socket.destroy(new Error("timed out")));
    socket.once("error", (cause) =>
      reject(
        new OperatingError("clone-unreachable", `The clone on node "${target.node}" cannot be reached`, { cause }),
      ),
    );
    socket.once("secureConnect", () => {
      socket.setTimeout(0);
      resolve(socket);
    });
  });
}

export type Greeting = Omit<Hello, "version" | "clocks" | "key">;

/**
 * Greets the clone and waits until it accepts. Errors: `clone-refuses`, or what it says itself (`disk-full`). The link's handlers are the caller's afterwards.
 * @param clocks the application's
 * @returns whether it has content of an earlier time
 */
export function greet(standby: StandbyLink, hello: Greeting, clocks: () => Clocks): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const { link, node } = standby;
    const timer = setTimeout(() => refuse(`no answer within ${GREET_MS / 1000} s`), GREET_MS);
    const refuse = (reason: string, failure?: Failure) => {
      clearTimeout(timer);
      const message = `The clone on node "${node}" refuses: ${reason}`;
      const known = failure !== undefined && failure.code !== "internal";
      reject(known ? fromFailure(failure) : new OperatingError("clone-refuses", message, { details: { node } }));
    };
    link.onMessage = (message: Message) => {
      if (message.type === "accepted") {
        clearTimeout(timer);
        standby.phase = "waiting";
        standby.alive();
        if (message.memory) standby.held.expect();
        resolve(message.holds);
      } else if (message.type === "held") standby.held.hear(message);
      else if (message.type === "refused") refuse(message.reason, message.failure);
      // It puts aside what it has, before it accepts.
      else if (message.type === "heartbeat") timer.refresh();
      else refuse(`it answers "${message.type}"`);
    };
    link.onClose = (error) => refuse(error?.message ?? "it closed the connection");
    const { monotonic, boottime } = clocks();
    link.send({
      type: "hello",
      hello: {
        version: STREAM_VERSION,
        clocks: { monotonic: String(monotonic), boottime: String(boottime) },
        key: standby.held.key,
        ...hello,
      },
    });
  });
}
