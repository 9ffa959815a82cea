/** Who is let in: users, join tokens, nodes that join, certificates that are renewed, and the trail of what they did. */
import { readFile } from "node:fs/promises";
import type { TLSSocket } from "node:tls";
import type { HttpBindings } from "@hono/node-server";
import type { Context, Hono } from "hono";
import { peerName } from "../cluster/tls.ts";
import { OperatingError } from "../kernel/failure.ts";
import type { AuditEntry } from "./api-types.ts";
import type { AgentContext } from "./context.ts";
import { join, listTokens, makeJoinToken, removeToken, renewFor } from "./join.ts";
import { jsonBody } from "./json-body.ts";
import { limits } from "./limits.ts";
import { addUser, listUsers, removeUser } from "./users.ts";

export function accessRoutes(api: Hono, context: AgentContext): void {
  api.get("/v1/users", async (c) => c.json(await listUsers(context)));
  api.post("/v1/users", async (c) => c.json(await addUser(context, await jsonBody(c))));
  api.delete("/v1/users/:name", async (c) => {
    await removeUser(context, c.req.param("name"));
    return c.json({});
  });
  api.get("/v1/tokens", async (c) => c.json(await listTokens(context)));
  api.post("/v1/tokens", async (c) => c.json(await makeJoinToken(context, await jsonBody(c))));
  api.delete("/v1/tokens/:id", async (c) => {
    await removeToken(context, c.req.param("id"));
    return c.json({});
  });
  // Public: a node that joins compares it with the fingerprint in its token before it believes it.
  api.get("/v1/authority", async (c) => c.json({ ca: await readFile(context.config.tls.ca, "utf8") }));
  api.post("/v1/join", async (c) => c.json(await join(context, await jsonBody(c))));
  api.post("/v1/internal/certificate", async (c) => c.json(await renewFor(context, askingNode(c), await jsonBody(c))));
  api.get("/v1/audit", async (c) => c.json(await auditTrail(context, c.req.query("scope") !== "node")));
}

/** The name in the asker's certificate: nobody is signed another one. */
function askingNode(c: Context): string {
  const { socket } = (c.env as HttpBindings).incoming;
  const name = "getPeerCertificate" in socket ? peerName(socket as TLSSocket) : undefined;
  if (name !== undefined) return name;
  throw new OperatingError("unauthenticated", "Only a node's own certificate is renewed, and only when it shows that");
}

/** Of all nodes that answer, oldest first. */
async function auditTrail(context: AgentContext, cluster: boolean): Promise<AuditEntry[]> {
  const own = context.audit.list();
  if (!cluster) return own;
  const others = (await context.records.nodes()).filter(({ name }) => name !== context.node);
  const lists = others.map(async ({ name }) => {
    try {
      const peer = await context.peers.client(name);
      const timeoutMs = limits.peerHealthTimeoutMs;
      return await peer.json<AuditEntry[]>("GET", "/v1/audit?scope=node", { timeoutMs });
    } catch (error) {
      if (error instanceof OperatingError && error.code === "node-unreachable") return [];
      throw error;
    }
  });
  return [...own, ...(await Promise.all(lists)).flat()].sort((a, b) => (a.at < b.at ? -1 : 1));
}
