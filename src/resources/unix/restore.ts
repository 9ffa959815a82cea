/** Makes unix sockets anew: names, listeners, pairs as they were connected, who waits; then what is in their queues. */

import { readFileSync, writeFileSync } from "node:fs";
import { call, closeDescriptor, setStatusFlags, tryCall } from "../../kernel/calls.ts";
import { checked } from "../../kernel/errors.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { sendMessage } from "../../kernel/message.ts";
import { SOCK_CLOEXEC, SOL_SOCKET } from "../../kernel/socket.ts";
import { attachFilter } from "../../kernel/socket-filter.ts";
import type { CreateContext } from "../kind.ts";
import { readOption } from "../socket-options.ts";
import { as, Names, newSocket } from "./names.ts";
import {
  AF_UNIX,
  SO,
  SOCK_DGRAM,
  SOCK_STREAM,
  type UnixCredentials,
  type UnixMessage,
  type UnixState,
} from "./state.ts";
import type { Unheard } from "./unaccepted.ts";

const ROOM_BYTES = 1 << 28;
const integer = Buffer.alloc(4);

/** What is restored, with this process's descriptor once it has one. */
interface Socket {
  state: UnixState;
  fd: number;
  /** The other end, when it is not one of the application's any more. */
  phantom: number;
}

export function restoreUnix(states: UnixState[], context: CreateContext): number[] {
  return new UnixRestore(states, context).run();
}

/**
 * Where an older checkpoint, or a kernel that does not tell, says nothing of it, what waits goes in again at least.
 * @param usual of sockets that the application makes from now on
 */
export function queueLimitOf({ queueLimit, queue }: UnixState, usual: number): number {
  return queueLimit ?? Math.max(usual, queue.length);
}

class UnixRestore {
  readonly #context: CreateContext;
  readonly #sockets: Socket[];
  readonly #byInode: Map<number, Socket>;
  readonly #names: Names;
  readonly #listeners = new Map<string, Socket>();
  /** Listeners of names whose own ones are gone: [descriptor, listens for]. */
  readonly #standIns = new Map<string, number>();

  constructor(states: UnixState[], context: CreateContext) {
    this.#context = context;
    this.#sockets = states.map((state) => ({ state, fd: -1, phantom: -1 }));
    this.#byInode = new Map(this.#sockets.map((socket) => [socket.state.inode, socket]));
    this.#names = new Names(context);
  }

  run(): number[] {
    for (const socket of this.#sockets) if (socket.state.listening) this.#listen(socket);
    const waiting = new Set(this.#sockets.flatMap(({ state }) => state.waiting));
    for (const socket of this.#sockets) {
      const { state } = socket;
      if (socket.fd >= 0 || waiting.has(state.inode)) continue;
      if (state.type === SOCK_DGRAM)
        withSetting(
          this.#context,
          "unix/max_dgram_qlen",
          (limit) => queueLimitOf(state, limit),
          () => this.#datagram(socket),
        );
      else if (state.peer >= 0) this.#connected(socket);
      else this.#single(socket);
    }
    for (const socket of this.#sockets) if (socket.state.listening) this.#wait(socket);
    for (const socket of this.#sockets) if (socket.state.type === SOCK_DGRAM) this.#connectDatagram(socket);
    for (const fd of this.#standIns.values()) closeDescriptor(fd);
    this.#context.whenCreated((own) => this.#finish(own));
    return this.#sockets.map(({ fd }) => fd);
  }

  #single(socket: Socket): void {
    socket.fd = newSocket(this.#context, socket.state.type);
    if (socket.state.name.address.length > 2) this.#names.bind(socket.fd, socket.state.name);
  }

  #listen(socket: Socket): void {
    const { state } = socket;
    this.#single(socket);
    this.#setBacklog(socket, Math.max(state.backlog, state.waiting.length));
    if (!this.#listeners.has(state.name.key)) this.#listeners.set(state.name.key, socket);
  }

  /** It is called by the one who did: those who connect see its credentials. */
  #setBacklog({ state, fd: own }: Socket, backlog: number): void {
    as(this.#context, state.peerCredentials, (inside) => {
      const fd = inside.give(own);
      withSetting(
        this.#context,
        "core/somaxconn",
        (most) => Math.max(most, backlog),
        () => inside.remote.call("listen", fd, backlog),
      );
      inside.remote.call("close", fd);
    });
  }

  /** The listening socket, in this process, that an accepted socket has its name of; undefined for sockets of socketpair. */
  #listenerOf({ state }: Socket): number | undefined {
    const { name } = state;
    if (name.address.length <= 2) return undefined;
    const known = this.#listeners.get(name.key)?.fd ?? this.#standIns.get(name.key);
    if (known !== undefined) return known;
    const fd = newSocket(this.#context, state.type);
    this.#names.bind(fd, name);
    call("listen", fd, 1);
    this.#standIns.set(name.key, fd);
    return fd;
  }

  #connected(socket: Socket): void {
    const peer = this.#byInode.get(socket.state.peer);
    if (peer && peer.fd < 0 && this.#listeners.has(peer.state.name.key)) this.#connectTo(peer, socket);
    else if (this.#listeners.has(socket.state.name.key)) this.#connectTo(socket, peer);
    else if (peer && peer.state.name.address.length > 2) this.#connectTo(peer, socket);
    else if (socket.state.name.address.length > 2) this.#connectTo(socket, peer);
    else this.#pair(socket, peer);
  }

  /** `server` is what accept gave; `client` connected. */
  #connectTo(server: Socket, client: Socket | undefined): void {
    const listener = this.#listenerOf(server)!;
    const fd = this.#connectClient(server.state, client?.state, server.state.peerCredentials);
    server.fd = call("accept4", listener, null, null, SOCK_CLOEXEC);
    if (client) client.fd = fd;
    else server.phantom = fd;
  }

  #connectClient(
    { type, name }: Pick<UnixState, "type" | "name">,
    client: UnixState | undefined,
    who: UnixCredentials | undefined,
  ): number {
    const fd = newSocket(this.#context, type);
    if (client && client.name.address.length > 2 && client.name.key !== name.key) this.#names.bind(fd, client.name);
    as(this.#context, who, (inside) => {
      const { remote } = inside;
      const theirs = inside.give(fd);
      const address = this.#names.addressInside(name);
      // A file that only others may write to: whom it was open to then has been asked once.
      const result = remote.tryCall("connect", theirs, remote.put(address), address.length);
      remote.call("close", theirs);
      if (result < 0) this.#names.reach(name, (own) => call("connect", fd, own, own.length));
    });
    return fd;
  }

  #pair(socket: Socket, peer: Socket | undefined): void {
    const { type, peerCredentials } = socket.state;
    const [a, b] = as(this.#context, peerCredentials, (inside) => {
      const at = inside.remote.put(Buffer.alloc(8));
      inside.remote.call("socketpair", AF_UNIX, type, 0, at);
      const ends = inside.remote.read(at, 8);
      return [inside.fetch(ends.readInt32LE(0)), inside.fetch(ends.readInt32LE(4))];
    }) as [number, number];
    socket.fd = a;
    if (peer) peer.fd = b;
    else socket.phantom = b;
  }

  #wait(socket: Socket): void {
    const { state } = socket;
    state.waiting.forEach((inode, i) => {
      const client = this.#byInode.get(inode);
      const owner = client ? { pid: client.state.owner, uid: 0, gid: 0 } : undefined;
      const fd = this.#connectClient(state, client?.state, owner);
      for (const message of state.unheard?.[i] ?? []) this.#sendUnheard(fd, state.type, message, owner?.pid);
      if (client) client.fd = fd;
      else closeDescriptor(fd);
    });
    // One more than the backlog was let in, as always, or some by an earlier one.
    if (state.waiting.length > state.backlog) this.#setBacklog(socket, state.backlog);
  }

  #sendUnheard(fd: number, type: number, { content, uid, gid }: Unheard, sender: number | undefined): void {
    const pid = sender === undefined ? undefined : this.#context.inside(sender)?.pid;
    setOption(fd, SO.sendBufferForce, ROOM_BYTES);
    for (let at = 0; at < content.length || at === 0; ) {
      const part = { content: content.subarray(at), credentials: pid ? { pid, uid, gid } : undefined };
      const n = checked(sendMessage(fd, part), "sendmsg", "what nobody has heard");
      if (type !== SOCK_STREAM || n === 0) return;
      at += n;
    }
  }

  #datagram(socket: Socket): void {
    const { state } = socket;
    const peer = this.#byInode.get(state.peer);
    const named = peer && peer.state.name.address.length > 2;
    if (state.peer === 0 || (peer && !named && peer.fd < 0)) {
      this.#pair(socket, peer);
      for (const end of [socket, peer])
        if (end && end.state.name.address.length > 2) this.#names.bind(end.fd, end.state.name);
    } else this.#single(socket);
  }

  #connectDatagram({ state, fd }: Socket): void {
    const peer = this.#byInode.get(state.peer);
    if (peer && peer.state.name.address.length > 2)
      this.#names.reach(peer.state.name, (address) => call("connect", fd, address, address.length));
  }

  #finish(own: ReadonlyMap<string, number>): void {
    for (const socket of this.#sockets) this.#fill(socket, own);
    for (const { state, fd, phantom } of this.#sockets) {
      if (state.shutdown && phantom < 0 && !state.listening) call("shutdown", fd, state.shutdown - 1);
      closeDescriptor(phantom);
    }
    for (const { state, fd } of this.#sockets) {
      for (const [option, value] of state.options) {
        // To say no to one may take another away (SO_TIMESTAMP, SO_TIMESTAMPNS).
        if (!readOption(fd, SOL_SOCKET, option).equals(value)) setOption(fd, option, value);
      }
      if (state.filter) attachFilter(fd, state.filter);
      setStatusFlags(fd, state.flags);
    }
    this.#names.removeMoved();
  }

  #fill(socket: Socket, own: ReadonlyMap<string, number>): void {
    for (const message of socket.state.queue) this.#send(socket, message, own);
  }

  #send(socket: Socket, message: UnixMessage, own: ReadonlyMap<string, number>): void {
    const { state } = socket;
    const { from, content } = message;
    const fds = message.descriptors.map((id) => {
      const fd = own.get(id);
      if (fd === undefined)
        throw new OperatingError("checkpoint-inconsistent", `Description ${id} in flight is missing`);
      return fd;
    });
    const sender = this.#senderTo(socket, from);
    const connected = sender.connected;
    const credentials = this.#credentialsOf(message);
    setOption(sender.fd, SO.sendBufferForce, ROOM_BYTES);
    const send = (to: Buffer | undefined) => {
      for (let at = 0; at < content.length || at === 0; ) {
        const part = { content: content.subarray(at), to, fds: at === 0 ? fds : [], credentials };
        const n = checked(sendMessage(sender.fd, part), "sendmsg", `unix socket ${state.inode}`);
        if (state.type !== SOCK_STREAM || n === 0) return;
        at += n;
      }
    };
    if (connected) send(undefined);
    else this.#names.reach(state.name, send);
    if (sender.temporary) closeDescriptor(sender.fd);
  }

  #senderTo(socket: Socket, from: Buffer): { fd: number; connected: boolean; temporary: boolean } {
    const { state, phantom } = socket;
    if (state.type !== SOCK_DGRAM)
      return { fd: phantom >= 0 ? phantom : this.#byInode.get(state.peer)!.fd, connected: true, temporary: false };
    const named = from.length > 2 ? this.#sockets.find((other) => other.state.name.address.equals(from)) : undefined;
    const peers = this.#sockets.filter((other) => other.state.peer === state.inode);
    const sender = named ?? peers.find((other) => other.state.name.address.length <= 2);
    if (sender) return { fd: sender.fd, connected: sender.state.peer === state.inode, temporary: false };
    if (phantom >= 0) return { fd: phantom, connected: true, temporary: false };
    return { fd: newSocket(this.#context, SOCK_DGRAM), connected: false, temporary: true };
  }

  #credentialsOf({ credentials }: UnixMessage): UnixCredentials | undefined {
    const pid = credentials && this.#context.inside(credentials.pid)?.pid;
    return pid ? { ...credentials!, pid } : undefined;
  }
}

/** Runs `body` with a setting of the application's network namespace that counts for what is made meanwhile. */
function withSetting(context: CreateContext, name: string, wanted: (was: number) => number, body: () => void): void {
  const file = `/proc/sys/net/${name}`;
  const set = (value: number) => context.inNetwork(() => writeFileSync(file, String(value)));
  const was = context.inNetwork(() => Number(readFileSync(file, "latin1")));
  const value = wanted(was);
  if (value !== was) set(value);
  try {
    body();
  } finally {
    if (value !== was) set(was);
  }
}

function setOption(fd: number, option: number, value: number | Buffer): void {
  if (typeof value === "number") integer.writeInt32LE(value);
  let bytes = typeof value === "number" ? integer : value;
  let name = option;
  if (option === SO.sendBuffer || option === SO.receiveBuffer) {
    // The kernel doubles what it is given.
    name = option === SO.sendBuffer ? SO.sendBufferForce : SO.receiveBufferForce;
    bytes = Buffer.alloc(4);
    bytes.writeInt32LE((value as Buffer).readInt32LE() / 2);
  }
  tryCall("setsockopt", fd, SOL_SOCKET, name, bytes, bytes.length);
}
