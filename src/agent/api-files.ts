/** The application's own files over the API: listed, one as it is, all in the steps that a clone gets. */
import { Readable } from "node:stream";
import type { Context, Hono } from "hono";
import { readName } from "../files/names.ts";
import { OperatingError } from "../kernel/failure.ts";
import type { AgentContext } from "./context.ts";
import { contentOf, exportOf, listingOf } from "./files.ts";
import { passOn } from "./pass-on.ts";
import { forwardedHeader } from "./route.ts";

export function addFileRoutes(api: Hono, context: AgentContext): void {
  const base = "/v1/applications/:name/files";
  api.get(base, (c) => whereTheyAre(context, c, async (name, path) => c.json(await listingOf(context, name, path))));
  api.get(`${base}/content`, (c) =>
    whereTheyAre(context, c, async (name, path) => bytes(await contentOf(context, name, path))),
  );
  api.get(`${base}/export`, (c) =>
    whereTheyAre(context, c, async (name, path) => bytes(await exportOf(context, name, path))),
  );
}

/** On the primary, unless the copy of the very node that is asked is wanted: `here`. */
async function whereTheyAre(
  context: AgentContext,
  c: Context,
  answer: (name: string, path: string) => Promise<Response>,
): Promise<Response> {
  const name = c.req.param("name")!;
  const path = readName(c.req.query("path") ?? "/");
  if (!path.startsWith("/") || path.includes("\0"))
    throw new OperatingError("path-invalid", "A path begins with / and has no zero byte");
  const { view } = await context.records.known(name);
  const primary = view?.value.primary ?? context.node;
  const here = c.req.query("here") !== undefined || c.req.header(forwardedHeader) !== undefined;
  if (here || primary === context.node) return answer(name, path);
  return passOn(context, c, primary, { [forwardedHeader]: context.node });
}

/** Read as fast as it is taken; ends early, and not as a whole, when reading fails. */
function bytes(chunks: AsyncIterable<Buffer>): Response {
  return new Response(Readable.toWeb(Readable.from(chunks, { objectMode: false })) as ReadableStream, {
    headers: { "content-type": "application/octet-stream" },
  });
}
