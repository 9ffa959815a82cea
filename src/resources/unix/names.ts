/** Binding unix sockets in the clone: by its own processes, so that names mean there what they mean to the application. */

import { call, closeDescriptor, openInRoot } from "../../kernel/calls.ts";
import { O_NOFOLLOW, O_PATH, Status, tryOpenBelow } from "../../kernel/files.ts";
import { SOCK_CLOEXEC } from "../../kernel/socket.ts";
import type { CreateContext, Inside } from "../kind.ts";
import { AF_UNIX, type UnixCredentials, type UnixName } from "./state.ts";

export function isPath({ address }: UnixName): boolean {
  return address.length > 2 && address[2] !== 0;
}

export function pathOf({ address }: UnixName): string {
  return address.toString("latin1", 2).replace(/\0.*$/s, "");
}

/** Of a name in the file system, as the application sees it. */
export function absolutePathOf(name: UnixName): string {
  const path = pathOf(name);
  return path.startsWith("/") ? path : `${name.directory.replace(/\/$/, "")}/${path}`;
}

/** Makes calls in a process of the clone as the one that `who` was; in any when there is none of that pid. */
export function as<T>(context: CreateContext, who: UnixCredentials | undefined, body: (inside: Inside) => T): T {
  const inside = (who && context.inside(who.pid)) ?? context.inside();
  const { remote } = inside;
  const other = who !== undefined && (who.uid !== 0 || who.gid !== 0);
  remote.reset();
  if (other) {
    remote.call("setresgid", -1, who.gid, -1);
    remote.call("setresuid", -1, who.uid, -1);
  }
  try {
    return body(inside);
  } finally {
    if (other) {
      remote.call("setresuid", -1, 0, -1);
      remote.call("setresgid", -1, 0, -1);
    }
    remote.reset();
  }
}

/** Names whose files the application has removed stand under others until everything is connected. */
export class Names {
  readonly #context: CreateContext;
  readonly #moved = new Map<string, string>();
  #next = 0;

  constructor(context: CreateContext) {
    this.#context = context;
  }

  /** Binds a descriptor of this process. Returns how it is reached: see `reach`. */
  bind(own: number, name: UnixName): void {
    const inside = this.#context.inside();
    const { remote } = inside;
    remote.reset();
    const fd = inside.give(own);
    try {
      if (!isPath(name)) {
        remote.call("bind", fd, remote.put(name.address), name.address.length);
        return;
      }
      if (!pathOf(name).startsWith("/")) remote.call("chdir", remote.putString(name.directory));
      const path = remote.put(Buffer.from(`${pathOf(name)}\0`, "latin1"));
      const was = this.#setAside(name);
      const inode = name.file ? numberAt(this.#context.rootFd, absolutePathOf(name)) : undefined;
      remote.tryCall("unlink", path);
      const bind = () => remote.call("bind", fd, remote.put(name.address), name.address.length);
      if (inode === undefined) bind();
      else this.#context.numbered(absolutePathOf(name), inode, bind);
      if (name.file) {
        remote.call("chmod", path, name.file.mode);
        remote.call("chown", path, name.file.uid, name.file.gid);
      } else {
        const aside = `${absolutePathOf(name)}.~${this.#next++}`;
        const to = remote.put(Buffer.from(`${aside}\0`, "latin1"));
        remote.call("renameat", AT_FDCWD, path, AT_FDCWD, to);
        this.#moved.set(name.key, aside);
        if (was) remote.call("renameat", AT_FDCWD, remote.put(was), AT_FDCWD, path);
      }
    } finally {
      remote.call("close", fd);
      remote.call("chdir", remote.putString("/"));
      remote.reset();
    }
  }

  /** Where the application's own name leads to another file now, that one steps aside for the moment. */
  #setAside(name: UnixName): Buffer | undefined {
    if (name.file) return undefined;
    const { remote } = this.#context.inside();
    const was = Buffer.from(`${absolutePathOf(name)}.~other\0`, "latin1");
    const path = remote.put(Buffer.from(`${pathOf(name)}\0`, "latin1"));
    return remote.tryCall("renameat", AT_FDCWD, path, AT_FDCWD, remote.put(was)) === 0 ? was : undefined;
  }

  /** Runs `body` with an address that leads this process to the socket so bound. */
  reach<T>(name: UnixName, body: (address: Buffer) => T): T {
    if (!isPath(name)) return body(name.address);
    const fd = openInRoot(this.#context.rootFd, this.#moved.get(name.key) ?? absolutePathOf(name), O_PATH | O_NOFOLLOW);
    try {
      const address = Buffer.from(`\0\0/proc/self/fd/${fd}\0`, "latin1");
      address.writeUInt16LE(AF_UNIX, 0);
      return body(address);
    } finally {
      closeDescriptor(fd);
    }
  }

  /** As `reach`, for a call made in a process of the clone. */
  addressInside(name: UnixName): Buffer {
    if (!isPath(name)) return name.address;
    const moved = this.#moved.get(name.key) ?? absolutePathOf(name);
    const address = Buffer.from(`\0\0${moved}\0`, "latin1");
    address.writeUInt16LE(AF_UNIX, 0);
    return address;
  }

  /** Everything is connected: files that the application has removed go. */
  removeMoved(): void {
    const { remote } = this.#context.inside();
    for (const path of this.#moved.values()) {
      remote.reset();
      remote.tryCall("unlink", remote.put(Buffer.from(`${path}\0`, "latin1")));
    }
    remote.reset();
  }
}

/** Of the file that came with the application's others; undefined when there is none. */
function numberAt(rootFd: number, path: string): number | undefined {
  const fd = tryOpenBelow(rootFd, path, O_PATH | O_NOFOLLOW);
  if (fd < 0) return undefined;
  const status = new Status();
  const result = status.read(fd, "");
  closeDescriptor(fd);
  return result < 0 ? undefined : status.inode;
}

const AT_FDCWD = -100;

/** socket, in the application's network. */
export function newSocket(context: CreateContext, type: number): number {
  return context.inNetwork(() => call("socket", AF_UNIX, type | SOCK_CLOEXEC, 0));
}
