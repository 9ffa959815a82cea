/** TCP sockets: listening, connected, on their way in or out of a connection. */

import { tryCall } from "../../kernel/calls.ts";
import { bringUp } from "../../kernel/link.ts";
import type { Description, DescriptorKind, DumpContext } from "../kind.ts";
import { TcpCapture, type TcpSocket } from "./capture.ts";
import { CloseWatch } from "./close-watch.ts";
import { Handshakes } from "./handshakes.ts";
import { OptionWatch } from "./option-watch.ts";
import { type Orphan, Orphans } from "./orphans.ts";
import { FLAG, STATE } from "./record.ts";
import { resolvePeers } from "./resolve.ts";
import { restoreTcp } from "./restore.ts";
import { type Handshake, repeatAnswers, reviveUnaccepted } from "./revive.ts";
import { applyTcpChange, type TcpState, wholeTcpState } from "./state.ts";

export interface TcpSocketState {
  flags: number;
  /** A record and both queues, see record.ts. */
  content: Buffer;
  /** Of a listening socket: the connections that wait in it. */
  waiting?: Handshake[];
}

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const IPPROTO_TCP = 6;
const F_SETFL = 4;

const capture = new TcpCapture();
const known = new WeakMap<TcpState, TcpSocketState>();

/** The same object as long as nothing changed, so that a comparison can stop there. */
function stateOf(state: TcpState, flags: number): TcpSocketState {
  const before = known.get(state);
  if (before !== undefined && before.flags === flags) return before;
  const out = { flags, content: wholeTcpState(state) };
  known.set(state, out);
  return out;
}

/**
 * Lets later dumps skip sockets' options when nobody has set one: about 10 µs a socket. `cgroup`: a cgroup2 directory above
 * the application's and this process's own (sockets restored here belong to the latter). Throws when BPF is refused.
 */
export function watchTcpOptions(cgroup: string): void {
  capture.setWatch(new OptionWatch(cgroup));
}

let handshakes: Handshakes | undefined;

/**
 * From now on dumps also hold connections that the application has not accepted. In the node's network namespace. Call
 * `markTcpHandshakes` in each stop right after the mark in the held output. See handshakes.ts.
 */
export function watchTcpHandshakes(nodeEnd: string, namespaceFd: number): void {
  handshakes?.close();
  handshakes = new Handshakes(nodeEnd, namespaceFd);
}

/** Returns how many connections have data waiting and are not accepted yet: then a stop a moment later is better. */
export function markTcpHandshakes(): number {
  handshakes?.mark();
  return handshakes?.withData() ?? 0;
}

let orphans: Orphans | undefined;

/**
 * From now on dumps also hold connections that the application has closed and that are not over. `cgroup`: as for
 * `watchTcpOptions`; without it each dump asks whether there are any, 0.4 ms. Throws when this kernel's memory cannot be read.
 */
export function watchClosedTcp(namespaceFd: number, cgroup?: string): void {
  orphans?.close();
  orphans = undefined;
  orphans = new Orphans(namespaceFd, cgroup === undefined ? undefined : new CloseWatch(cgroup));
}

const knownOrphans = new WeakMap<Buffer, TcpSocketState>();

/** The same object as long as nothing changed. */
function stateOfOrphan({ content }: Orphan): TcpSocketState {
  const known = knownOrphans.get(content) ?? { flags: 0, content };
  knownOrphans.set(content, known);
  return known;
}

/** Forgets what was dumped before: another application, or another life of this one, comes next. */
export function resetTcp(): void {
  capture.close();
  lastOut = undefined;
  handshakes?.close();
  handshakes = undefined;
  orphans?.close();
  orphans = undefined;
}

const sockets = new WeakMap<Description[], TcpSocket[]>();

/** The same array for the same descriptions. */
function socketsOf(descriptions: Description[], context: DumpContext): TcpSocket[] {
  const before = sockets.get(descriptions);
  if (before) return before;
  const now = descriptions.map((description) => {
    return { id: description.link, ...context.place(description), stamps: context.stamps(description.pid) };
  });
  sockets.set(descriptions, now);
  return now;
}

let lastOut: { states: readonly TcpState[]; descriptions: readonly Description[]; out: TcpSocketState[] } | undefined;

/** The same array for the same states of the same descriptions. */
function outOf(states: readonly TcpState[], descriptions: readonly Description[]): TcpSocketState[] {
  const before = lastOut?.descriptions === descriptions ? lastOut : undefined;
  if (before?.states === states) return before.out;
  const out = states.map((state, i) =>
    state === before?.states[i] ? before.out[i]! : stateOf(state, descriptions[i]!.flags),
  );
  lastOut = { states, descriptions, out };
  return out;
}

const keyOf = ({ client, server }: Handshake): string => `${client.toString("hex")} ${server.toString("hex")}`;

/**
 * @kept connections over IPv4 and IPv6 in every state, with both queues, options, timestamps, windows; listening sockets
 *   with those who were not accepted yet; what a program has closed with bytes left to send.
 * @unkept filters (refused); keys that sign segments (TCP_MD5SIG; refused, where the kernel's memory can be read); programs that
 *   spread connections over the sockets of a port (SO_ATTACH_REUSEPORT_CBPF).
 */
export const tcp: DescriptorKind<TcpSocketState> = {
  kind: "tcp",
  version: 2,
  after: [],
  matches: () => false,
  matchesSocket: ({ domain, type, protocol }) =>
    (domain === AF_INET || domain === AF_INET6) && type === SOCK_STREAM && protocol === IPPROTO_TCP,
  dump(descriptions, context) {
    // On their way from one process to another: they are here for this dump only.
    const isInFlight = descriptions[0]?.pid === process.pid;
    const states = (isInFlight ? new TcpCapture() : capture).take(socketsOf(descriptions, context));
    const waiting = handshakes?.waiting() ?? [];
    return () => {
      const all = states();
      const out = outOf(all, descriptions);
      if (waiting.length === 0) return out;
      return out.map((one, i) => {
        const { record } = all[i]!;
        if (record.state !== STATE.listen) return one;
        const own = waiting.filter(({ server }) => server.readUInt16BE(2) === record.localPort);
        return own.length === 0 ? one : { ...one, waiting: own };
      });
    };
  },
  dumpOwnerless() {
    return (orphans?.dump() ?? []).map((orphan) => [orphan.id, stateOfOrphan(orphan)]);
  },
  create(state, context) {
    return this.createAll!([state], context)[0]!;
  },
  createAll(states, context) {
    const parsed = states.map(({ flags, content }, i) => ({ i, flags, tcp: applyTcpChange(undefined, content) }));
    // Listening sockets first: a port in use by connections alone would be refused to them.
    parsed.sort((a, b) => Number(b.tcp.record.state === STATE.listen) - Number(a.tcp.record.state === STATE.listen));
    const fds: number[] = new Array(states.length).fill(-1);
    context.inNetwork(() => {
      // Connections of the application with itself need it, whether or not it has any other network.
      bringUp("lo");
      resolvePeers(parsed.map(({ tcp: state }) => state));
      for (const { i, flags, tcp: state } of parsed) {
        const restored = restoreTcp(state);
        tryCall("fcntl", restored.fd, F_SETFL, flags);
        fds[i] = restored.fd;
        const injects = (state.record.flags & FLAG.failed) !== 0 || state.record.state === STATE.timeWait;
        context.atLife(injects ? () => context.inNetwork(restored.finish) : restored.finish);
      }
      // Several listening sockets of one port share what waits: the kernel spreads it.
      const waiting = new Map(states.flatMap((state) => state.waiting ?? []).map((one) => [keyOf(one), one]));
      try {
        reviveUnaccepted([...waiting.values()]);
        context.atLife(() => context.inNetwork(() => repeatAnswers([...waiting.values()])));
      } catch {
        // A kernel without that function: their clients must connect again, all others go on.
      }
    });
    return fds;
  },
};
