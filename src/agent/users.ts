/** Users of the API: a name, a role, a token of which only the hash is kept. */
import { z } from "zod";
import { makeSecret } from "../cluster/secret.ts";
import { OperatingError } from "../kernel/failure.ts";
import type { NewUser, UserReport } from "./api-types.ts";
import type { AgentContext } from "./context.ts";
import { checkRequest } from "./protect-request.ts";
import { roles } from "./roles.ts";

export interface UserRecord extends UserReport {
  hash: string;
}

const prefix = "users/";
export const userKey = (name: string) => `${prefix}${name}`;

const schema = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z0-9][a-z0-9_-]{0,62}$/)
    .describe("lower-case letters, digits, hyphens, underscores"),
  role: z.enum(roles).describe(roles.join(", ")),
  expiresAt: z.iso.datetime().exactOptional().describe("a date and time such as 2027-01-31T12:00:00Z"),
});

/** A user that is there gets a new token and role; the old token is worth nothing then. */
export async function addUser(context: AgentContext, body: unknown): Promise<NewUser> {
  const wish = checkRequest(schema, body);
  const { secret, hash } = makeSecret();
  const report: UserReport = { ...wish, createdAt: new Date().toISOString() };
  const key = userKey(wish.name);
  const current = await context.store.get(key);
  const swap = await context.store.compareAndSwap(key, current?.revision ?? 0, { ...report, hash });
  if (!swap.ok)
    throw new OperatingError("changed-meanwhile", `"${wish.name}" was changed by somebody else at the same time`);
  return { ...report, token: `us1.${wish.name}.${secret}` };
}

export async function listUsers(context: AgentContext): Promise<UserReport[]> {
  return (await context.store.list<UserRecord>(prefix)).map(({ value: { hash, ...report } }) => report);
}

/** @throws OperatingError `user-unknown` */
export async function removeUser(context: AgentContext, name: string): Promise<void> {
  const current = await context.store.get(userKey(name));
  if (current === undefined) {
    throw new OperatingError("user-unknown", `There is no user "${name}"`, {
      remedy: "List them: understudy user list",
    });
  }
  await context.store.delete(userKey(name), current.revision);
}
