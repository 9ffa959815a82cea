/** The HTTP API: docs/api.md. The same over the unix socket and over TLS. */
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { View } from "../cluster/spec.ts";
import { OperatingError, toFailure } from "../kernel/failure.ts";
import { accessRoutes } from "./access-routes.ts";
import { addFileRoutes } from "./api-files.ts";
import type {
  ApplicationReport,
  ApplyResult,
  CloneRequest,
  Health,
  ProtectProgress,
  StreamLine,
  SwitchRequest,
  SwitchResult,
} from "./api-types.ts";
import { apply, diff } from "./apply.ts";
import { createClone, removeClone } from "./clones.ts";
import { type AgentContext, version } from "./context.ts";
import { instanceHere, reachesFromHere } from "./diagnosis.ts";
import { answerEvents } from "./event-stream.ts";
import { gate } from "./gate.ts";
import { jsonBody } from "./json-body.ts";
import { limits } from "./limits.ts";
import { lineStream } from "./line-stream.ts";
import { checkpointNow, checkpoints, promoteHere, promoteSomewhere, stop, switchPlanned, tree } from "./operations.ts";
import { nodeHeader, passOn } from "./pass-on.ts";
import { placementRoutes } from "./placement-routes.ts";
import { report, reportAll, reportAnywhere, reportNodes } from "./report.ts";
import { atPrimary, forwardedHeader, type Question } from "./route.ts";
import { startAtHome } from "./start-at-home.ts";
import { isStoreAway } from "./store-watch.ts";

const SWITCH_TIMEOUT_MS = 60_000;
const FORCED_SWITCH_TIMEOUT_MS = 5_000;

export function createApi(context: AgentContext): Hono {
  const api = new Hono();
  api.onError((error, c) => {
    const failure = toFailure(error);
    if (failure.code === "internal") context.log.error({ err: error, path: c.req.path }, "request failed");
    return c.json({ error: failure }, statusOf(failure.code));
  });
  api.notFound((c) => {
    const failure = { code: "path-unknown", message: `The agent has no "${c.req.method} ${c.req.path}"` };
    return c.json({ error: failure }, 404);
  });
  api.use(bodyLimit({ maxSize: limits.bodyBytes }));
  api.use(gate(context));
  api.use(async (c, next) => {
    const node = c.req.header(nodeHeader);
    return node === undefined || node === context.node ? next() : passOn(context, c, node);
  });

  accessRoutes(api, context);
  placementRoutes(api, context);
  api.get("/v1/health", (c) => c.json(health(context)));
  api.get("/v1/nodes", async (c) => c.json(await reportNodes(context)));
  api.get("/v1/events", (c) => answerEvents(context, c));

  api.get("/v1/applications", async (c) => c.json(await reportAll(context)));
  api.post("/v1/applications", async (c) => {
    const body = await jsonBody(c);
    return lineStream<StreamLine<ApplicationReport>>(c, async (write, signal) => {
      try {
        const progress = (progress: ProtectProgress) => write({ progress });
        write({ result: await startAtHome(context, body, { signal, progress }) });
      } catch (error) {
        write({ error: toFailure(error) });
      }
    });
  });
  api.put("/v1/applications/:name", async (c) => {
    const body = { ...((await jsonBody(c)) as object), name: c.req.param("name") };
    return lineStream<StreamLine<ApplyResult>>(c, async (write, signal) => {
      try {
        write({ result: await apply(context, body, { signal, progress: (progress) => write({ progress }) }) });
      } catch (error) {
        write({ error: toFailure(error) });
      }
    });
  });
  api.post("/v1/applications/:name/diff", async (c) => {
    return c.json(await diff(context, { ...((await jsonBody(c)) as object), name: c.req.param("name") }));
  });
  api.get("/v1/applications/:name", async (c) => {
    const name = c.req.param("name");
    // Without the primary's answer there is the record's: no reason to wait long.
    const asked = { ...question(c, name), timeoutMs: 2 * limits.peerHealthTimeoutMs };
    const withoutStore = () => (asked.forwarded ? report(context, name) : reportAnywhere(context, name));
    if (context.storeAway) return c.json(await withoutStore());
    try {
      return c.json(await atPrimary(context, asked, () => report(context, name)));
    } catch (error) {
      if (error instanceof OperatingError && error.code === "primary-unreachable")
        return c.json(await report(context, name));
      if (isStoreAway(error)) return c.json(await withoutStore());
      throw error;
    }
  });
  api.delete("/v1/applications/:name", async (c) => {
    const name = c.req.param("name");
    try {
      const asked = { ...question(c, name), timeoutMs: 2 * limits.stopTimeoutMs + limits.peerTimeoutMs };
      return c.json(await atPrimary(context, asked, () => stop(context, name)));
    } catch (error) {
      if (c.req.query("force") !== "true" || !isUnreachable(error)) throw error;
      return c.json(await stop(context, name));
    }
  });
  api.get("/v1/applications/:name/checkpoints", async (c) => {
    const name = c.req.param("name");
    return c.json(await atPrimary(context, question(c, name), () => checkpoints(context, name)));
  });
  api.post("/v1/applications/:name/checkpoints", async (c) => {
    const name = c.req.param("name");
    const asked = { ...question(c, name), timeoutMs: SWITCH_TIMEOUT_MS };
    return c.json(await atPrimary(context, asked, () => checkpointNow(context, name)));
  });
  api.get("/v1/applications/:name/tree", async (c) => {
    const name = c.req.param("name");
    return c.json(await atPrimary(context, question(c, name), () => tree(context, name)));
  });
  api.post("/v1/applications/:name/switch", async (c) => {
    const name = c.req.param("name");
    const request = (await jsonBody(c)) as SwitchRequest;
    const timeoutMs = request.force ? FORCED_SWITCH_TIMEOUT_MS : SWITCH_TIMEOUT_MS;
    const asked = { ...question(c, name), body: request, timeoutMs };
    if (
      request.checkpoint !== undefined ||
      (request.force && !asked.forwarded && (await primaryIsDown(context, name)))
    ) {
      return c.json(await promoteSomewhere(context, name, request));
    }
    const { view: before } = await context.records.known(name);
    try {
      return c.json(await atPrimary(context, asked, () => switchPlanned(context, name, request)));
    } catch (error) {
      const moved = isUnreachable(error) ? await movedMeanwhile(context, name, before?.value, request) : undefined;
      if (moved !== undefined) return c.json(moved);
      const done = error instanceof OperatingError && error.code === "already-primary";
      if (!request.force || asked.forwarded || done) throw error;
      return c.json(await promoteSomewhere(context, name, request));
    }
  });

  addFileRoutes(api, context);

  api.get("/v1/internal/instances/:name", async (c) => c.json(await instanceHere(context, c.req.param("name"))));
  api.get("/v1/internal/reach/:node", async (c) => c.json(await reachesFromHere(context, c.req.param("node"))));
  api.post("/v1/internal/clones/:name", async (c) => {
    return c.json(await createClone(context, c.req.param("name"), (await jsonBody(c)) as CloneRequest));
  });
  api.delete("/v1/internal/clones/:name", async (c) => {
    await removeClone(context, c.req.param("name"), c.req.query("createdAt") ?? "");
    return c.json({});
  });
  api.post("/v1/internal/promote/:name", async (c) => {
    return c.json(await promoteHere(context, c.req.param("name"), (await jsonBody(c)) as SwitchRequest));
  });
  return api;
}

function health(context: AgentContext): Health {
  const instances = context.instances.list().map(({ application, pid, status }) => ({
    application,
    pid,
    role: status?.role ?? "unknown",
    state: status?.state ?? "unknown",
    term: status?.term ?? 0,
  }));
  const load = { capacity: context.load.capacity, applications: context.load.loads };
  return { name: context.node, agent: { pid: process.pid, startedAt: context.startedAt, version }, load, instances };
}

/** Asked before a forced switch, so that it does not wait for the dead. */
async function primaryIsDown(context: AgentContext, name: string): Promise<boolean> {
  const { view } = await context.records.known(name);
  if (!view || view.value.primary === context.node) return false;
  return context.peers.health(view.value.primary).then(
    () => false,
    () => true,
  );
}

/** The old primary died before it could say that the switch was done; the record knows. */
async function movedMeanwhile(
  context: AgentContext,
  name: string,
  before: View | undefined,
  { to }: SwitchRequest,
): Promise<SwitchResult | undefined> {
  const { view } = await context.records.known(name);
  if (before === undefined || view === undefined || view.value.term <= before.term) return undefined;
  const { primary, term } = view.value;
  if (primary === before.primary || (to !== undefined && primary !== to)) return undefined;
  return { application: name, from: before.primary, to: primary, term, stopMs: null };
}

function question(c: Context, application: string): Question {
  const { pathname, search } = new URL(c.req.url);
  const forwarded = c.req.header(forwardedHeader) !== undefined;
  return { application, method: c.req.method, path: pathname + search, forwarded };
}

function isUnreachable(error: unknown): boolean {
  return error instanceof OperatingError && error.code === "primary-unreachable";
}

function statusOf(code: string): 400 | 401 | 403 | 404 | 409 | 500 | 503 {
  if (code === "unauthenticated") return 401;
  if (code === "forbidden") return 403;
  if (code.endsWith("-invalid")) return 400;
  if (code.endsWith("-unknown")) return 404;
  if (code.endsWith("-unreachable")) return 503;
  return code === "internal" ? 500 : 409;
}
