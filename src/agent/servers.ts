/** Where the API is served: a unix socket on this machine, TLS for the other nodes and users. Nothing else listens. */
import { chmodSync, rmSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { connect, type ListenOptions } from "node:net";
import { dirname } from "node:path";
import { createAdaptorServer } from "@hono/node-server";
import type { Hono } from "hono";
import type { Identity } from "../cluster/identity.ts";
import type { MutualTlsOptions } from "../cluster/tls.ts";
import { OperatingError } from "../kernel/failure.ts";

export interface Server {
  close(): Promise<void>;
}

/**
 * @param others whether others than root may connect; the API looks who they are (caller.ts)
 * @throws OperatingError `agent-running`, `listen-failed`
 */
export async function serveUnix(api: Hono, path: string, others: boolean): Promise<Server> {
  if (await answers(path)) {
    throw new OperatingError("agent-running", `Another agent listens at "${path}"`, {
      remedy: "One agent serves a node; stop the other first.",
    });
  }
  rmSync(path, { force: true });
  const server = createAdaptorServer({ fetch: api.fetch, createServer: http.createServer }) as http.Server;
  // The peer of a socket with mode 0600 in a directory of root's is root; there is no instant with another mode.
  const mask = process.umask(others ? 0o111 : 0o177);
  try {
    await listen(server, { path });
  } finally {
    process.umask(mask);
  }
  // What else is in the directory is for root alone; its name is passed through, not listed.
  if (others) chmodSync(dirname(path), 0o711);
  return closer(server);
}

/** @throws OperatingError `listen-failed` */
export async function serveTls(api: Hono, host: string, port: number, identity: Identity): Promise<Server> {
  // Who has no certificate must have a token; the API looks (caller.ts).
  const serverOptions = (tls: MutualTlsOptions) => ({ ...tls, rejectUnauthorized: false });
  const options = {
    fetch: api.fetch,
    createServer: https.createServer,
    serverOptions: serverOptions(identity.options),
  };
  const server = createAdaptorServer(options) as https.Server;
  identity.onRenewed((tls) => server.setSecureContext(serverOptions(tls)));
  await listen(server, { host, port });
  return closer(server);
}

function listen(server: http.Server | https.Server, options: ListenOptions): Promise<void> {
  // Streams of progress and events stay open as long as they are read.
  server.requestTimeout = 0;
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => {
      const where = options.path ?? `${options.host}:${options.port}`;
      reject(
        new OperatingError("listen-failed", `Cannot listen at "${where}": ${cause.message}`, {
          remedy: "Check listen in the configuration, and that nothing else uses the address.",
          cause,
        }),
      );
    });
    server.listen(options, () => resolve());
  });
}

function closer(server: http.Server | https.Server): Server {
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
