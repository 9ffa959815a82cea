/** Emptying nodes for maintenance, and sharing the load. */
import type { Hono } from "hono";
import { toFailure } from "../kernel/failure.ts";
import type { BalanceResult, DrainProgress, DrainResult, StreamLine } from "./api-types.ts";
import { balance } from "./balance.ts";
import type { AgentContext } from "./context.ts";
import { drain, undrain } from "./drain.ts";
import { jsonBody } from "./json-body.ts";
import { lineStream } from "./line-stream.ts";

export function placementRoutes(api: Hono, context: AgentContext): void {
  api.post("/v1/nodes/:node/drain", (c) =>
    lineStream<StreamLine<DrainResult, DrainProgress>>(c, async (write, signal) => {
      try {
        const progress = (progress: DrainProgress) => write({ progress });
        write({ result: await drain(context, c.req.param("node"), { signal, progress }) });
      } catch (error) {
        write({ error: toFailure(error) });
      }
    }),
  );
  api.delete("/v1/nodes/:node/drain", async (c) => {
    await undrain(context, c.req.param("node"));
    return c.json({});
  });
  api.post("/v1/balance", async (c) => {
    const { dryRun = false } = (await jsonBody(c)) as { dryRun?: boolean };
    return lineStream<StreamLine<BalanceResult, DrainProgress>>(c, async (write, signal) => {
      try {
        write({ result: await balance(context, { dryRun, signal, progress: (progress) => write({ progress }) }) });
      } catch (error) {
        write({ error: toFailure(error) });
      }
    });
  });
}
