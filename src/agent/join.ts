/**
 * How a node comes in: an admin makes a join token; who shows it, with a request for a certificate, gets one of the cluster's
 * authority. The authority's key lies on the nodes that have it (`authority` in their configuration) and never in the store: any
 * agent may be asked, and passes what has to be signed on to one of these.
 */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { fingerprintOf, type Signed, signCertificate } from "../cluster/pki.ts";
import { isSecret, makeSecret } from "../cluster/secret.ts";
import { OperatingError } from "../kernel/failure.ts";
import type { JoinAnswer, JoinToken, TokenReport } from "./api-types.ts";
import type { AgentContext } from "./context.ts";
import { limits } from "./limits.ts";
import { checkRequest } from "./protect-request.ts";

interface TokenRecord extends TokenReport {
  hash: string;
}

const prefix = "tokens/";
const tokenKey = (id: string) => `${prefix}${id}`;
const nodeName = z.string().regex(limits.namePattern).describe("lower-case letters, digits and hyphens, at most 63");

const wishSchema = z.strictObject({
  ttlSeconds: z
    .int()
    .min(1)
    .max(30 * 86_400)
    .default(3600)
    .describe("seconds, at most 30 days"),
  reusable: z.boolean().default(false).describe("true or false"),
  node: nodeName.exactOptional(),
});

const joinSchema = z.strictObject({
  token: z
    .string()
    .regex(/^[\w-]+\.[\w-]+$/)
    .describe("a token of understudy token"),
  name: nodeName,
  host: z.union([z.ipv4(), z.ipv6()]).describe("an IP address"),
  csr: z.string().max(10_000).describe("a PKCS #10 request, PEM"),
});

/** For one node, or until it expires; bound to this cluster's authority, so that the node asks no other. */
export async function makeJoinToken(context: AgentContext, body: unknown): Promise<JoinToken> {
  const { ttlSeconds, reusable, node } = checkRequest(wishSchema, body);
  const { secret, hash } = makeSecret();
  const id = makeSecret().secret.slice(0, 8).replaceAll(/[_-]/g, "0");
  const expiresAt = new Date(Date.now() + ttlSeconds * 1000).toISOString();
  const report: TokenReport = { id, expiresAt, reusable, ...(node !== undefined && { node }) };
  await context.store.compareAndSwap(tokenKey(id), 0, { ...report, hash } satisfies TokenRecord);
  const fingerprint = fingerprintOf(await readFile(context.config.tls.ca, "utf8"));
  return { ...report, token: `uj1.${id}.${secret}.${fingerprint}` };
}

export async function listTokens(context: AgentContext): Promise<TokenReport[]> {
  return (await context.store.list<TokenRecord>(prefix)).map(({ value: { hash, ...report } }) => report);
}

/** @throws OperatingError `token-unknown` */
export async function removeToken(context: AgentContext, id: string): Promise<void> {
  const current = await context.store.get(tokenKey(id));
  if (current === undefined) throw new OperatingError("token-unknown", `There is no join token "${id}"`);
  await context.store.delete(tokenKey(id), current.revision);
}

/** @throws OperatingError `token-refused`, `node-known`, `csr-invalid`, `no-authority` */
export async function join(context: AgentContext, body: unknown): Promise<JoinAnswer> {
  const request = checkRequest(joinSchema, body);
  const { name, host, csr } = request;
  if (context.config.authority === undefined) {
    return atAuthority(context, (peer) => peer.json<JoinAnswer>("POST", "/v1/join", { body: request }));
  }
  const token = await redeem(context, request.token, name);
  const known = (await context.records.nodes()).some((node) => node.name === name);
  if (known && token.node !== name) {
    throw new OperatingError("node-known", `There is a node "${name}" already`, {
      remedy: `Choose another name; for a node that is made anew: understudy token --for ${name}`,
    });
  }
  const signed = await sign(context, { name, hosts: [host], csr });
  context.events.add({
    kind: "node-joins",
    message: `"${name}" at ${host} has got a certificate`,
    details: { node: name },
  });
  return { ...signed, name, store: context.config.store };
}

/** Uses the token up, if it is for one time: whoever comes second finds nothing. */
async function redeem(context: AgentContext, token: string, name: string): Promise<TokenRecord> {
  const [id = "", secret = ""] = token.split(".");
  const refused = (why: string) =>
    new OperatingError("token-refused", `The join token ${why}`, { remedy: "Make another: understudy token" });
  const current = await context.store.get<TokenRecord>(tokenKey(id));
  if (current === undefined || !isSecret(secret, current.value.hash)) throw refused("is not known, or has been used");
  const { expiresAt, reusable, node } = current.value;
  if (node !== undefined && node !== name) throw refused(`is for "${node}" only`);
  if (Date.parse(expiresAt) <= Date.now()) throw refused(`has expired at ${expiresAt}`);
  if (!reusable && !(await context.store.delete(tokenKey(id), current.revision)).ok) throw refused("has been used");
  return current.value;
}

/** A node's next certificate: for the name that it has shown by its certificate, and for the address that it has registered. */
export async function renewFor(context: AgentContext, name: string, body: unknown): Promise<Signed> {
  const { csr } = checkRequest(joinSchema.pick({ csr: true }), body);
  const { api } = await context.records.node(name);
  return sign(context, { name, hosts: [new URL(api).hostname.replace(/^\[|\]$/g, "")], csr });
}

function sign(context: AgentContext, request: { name: string; hosts: string[]; csr: string }): Promise<Signed> {
  const { authority, certificateSeconds } = context.config;
  if (authority === undefined) throw noAuthority();
  return signCertificate(authority, { ...request, lifetimeMs: certificateSeconds * 1000 });
}

/** Asks the nodes that have the authority, one after the other. @throws OperatingError `no-authority`, or the last one's failure */
export async function atAuthority<T>(
  context: AgentContext,
  ask: (peer: Awaited<ReturnType<AgentContext["peers"]["client"]>>) => Promise<T>,
): Promise<T> {
  const nodes = (await context.records.nodes()).filter(({ name, authority }) => authority && name !== context.node);
  let failure: unknown = noAuthority();
  for (const { name } of nodes) {
    try {
      return await ask(await context.peers.client(name));
    } catch (error) {
      if (!(error instanceof OperatingError) || error.code !== "node-unreachable") throw error;
      failure = error;
    }
  }
  throw failure;
}

function noAuthority(): OperatingError {
  return new OperatingError("no-authority", "No node of this cluster has its authority", {
    remedy:
      "Name the authority's directory in the configuration of the node that has it: authority: /etc/understudy/ca",
  });
}
