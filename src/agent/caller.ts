/**
 * Who asks: another node (by its certificate), a user (by a token), or somebody on this machine (by what the kernel says of the
 * other end of the unix socket). The agent that is asked first decides; it tells those it passes the question on to for whom.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { TLSSocket } from "node:tls";
import { isSecret } from "../cluster/secret.ts";
import { peerName } from "../cluster/tls.ts";
import { OperatingError } from "../kernel/failure.ts";
import { descriptorOf, peerCredentials } from "../kernel/socket.ts";
import type { AgentContext } from "./context.ts";
import { allows, type Role, roleNeeded, roles } from "./roles.ts";
import { type UserRecord, userKey } from "./users.ts";

export interface Caller {
  /** `node:NAME`, `user:NAME` or `local:NAME`. */
  name: string;
  role: Role;
  /** An agent, or this machine's root: may ask what agents ask each other. */
  isNode: boolean;
  /** Another agent has asked before, and looked who it is for. */
  passedOn: boolean;
}

/** For whom a question is passed on to another agent. Believed only from nodes. */
export const userHeader = "understudy-user";

const asking = new AsyncLocalStorage<Caller>();

/** Runs `work` on behalf of the caller. */
export function onBehalfOf<T>(caller: Caller, work: () => T): T {
  return asking.run(caller, work);
}

/** What another agent has to be told when a question is passed on to it. */
export function callerHeaders(): Record<string, string> {
  const caller = asking.getStore();
  return caller === undefined ? {} : { [userHeader]: caller.name };
}

/** @throws OperatingError `unauthenticated`, `forbidden` */
export async function identify(context: AgentContext, request: IncomingMessage, path: string): Promise<Caller> {
  const needed = roleNeeded(request.method ?? "GET", path);
  const caller = await callerOf(context, request);
  if (needed === "anyone") return caller ?? { name: "nobody", role: "viewer", isNode: false, passedOn: false };
  if (caller === undefined) {
    throw new OperatingError(
      "unauthenticated",
      "Nobody is let in without a certificate of this cluster or a user's token",
      {
        remedy: "Give a token in UNDERSTUDY_TOKEN; an admin makes one with: understudy user add NAME --role ROLE",
      },
    );
  }
  if (needed === "node" ? !caller.isNode : !allows(caller.role, needed)) {
    throw new OperatingError(
      "forbidden",
      `"${caller.name}" is ${article(caller.role)}; this takes ${article(needed)}`,
      {
        remedy: "Ask somebody who may, or an admin for another role.",
        details: { user: caller.name, role: caller.role, needed },
      },
    );
  }
  return caller;
}

const article = (role: string) => (/^[aeiou]/.test(role) ? `an ${role}` : `a ${role}`);

async function callerOf(context: AgentContext, request: IncomingMessage): Promise<Caller | undefined> {
  const { socket } = request;
  if (!(socket instanceof TLSSocket)) return local(context, socket);
  const node = peerName(socket);
  if (node === undefined) return byToken(context, request.headers.authorization);
  const passedOnFor = request.headers[userHeader];
  const name = typeof passedOnFor === "string" ? passedOnFor : `node:${node}`;
  return { name, role: "admin", isNode: true, passedOn: passedOnFor !== undefined };
}

async function byToken(context: AgentContext, authorization = ""): Promise<Caller | undefined> {
  const [, name, secret] = /^Bearer us1\.([^.]+)\.([^.]+)$/.exec(authorization) ?? [];
  if (name === undefined || secret === undefined) return undefined;
  const user = (await context.store.get<UserRecord>(userKey(name)))?.value;
  if (user === undefined || !isSecret(secret, user.hash)) return undefined;
  if (user.expiresAt !== undefined && Date.parse(user.expiresAt) <= Date.now()) return undefined;
  return { name: `user:${name}`, role: user.role, isNode: false, passedOn: false };
}

/** root is admin; others are what the configured group makes them. */
function local(context: AgentContext, socket: IncomingMessage["socket"]): Caller | undefined {
  const fd = descriptorOf(socket);
  if (fd === undefined) return undefined;
  const { uid, gids } = peerCredentials(fd);
  const name = `local:${nameOf("/etc/passwd", uid)}`;
  if (uid === 0) return { name, role: "admin", isNode: true, passedOn: false };
  const groups = new Set(gids.map((gid) => nameOf("/etc/group", gid)));
  const role = roles.findLast((one) => groups.has(context.config.access[one] ?? ""));
  return role && { name, role, isNode: false, passedOn: false };
}

/** Of a user or a group; its number when the machine has no name for it. */
function nameOf(table: string, id: number): string {
  const line = readFileSync(table, "utf8")
    .split("\n")
    .find((one) => one.split(":")[2] === String(id));
  return line?.split(":")[0] ?? String(id);
}
