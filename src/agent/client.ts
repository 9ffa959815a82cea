/** A client of an agent's API: over its unix socket on the same machine, or over mutual TLS. */
import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import type { PeerCertificate } from "node:tls";
import type { MutualTlsOptions } from "../cluster/tls.ts";
import { type Failure, fromFailure, OperatingError } from "../kernel/failure.ts";
import { limits } from "./limits.ts";

export interface RequestOptions {
  body?: unknown;
  /** Until the answer's head is there; 0 for no limit. */
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
  headers?: Record<string, string>;
}

/** Without a certificate of its own the client says who it is by a token. */
export type ClientTls = MutualTlsOptions | Pick<MutualTlsOptions, "ca" | "minVersion">;

type Endpoint =
  | { kind: "unix"; path: string }
  | { kind: "tls"; url: URL; name: string | undefined; agent: https.Agent; headers: () => Record<string, string> };

export class AgentClient {
  readonly #endpoint: Endpoint;

  private constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
  }

  static unix(path: string): AgentClient {
    return new AgentClient({ kind: "unix", path });
  }

  /** @param name the node that must answer there: the common name of its certificate. Without it the host must match. */
  static tls(url: string, tls: ClientTls, name?: string, headers = () => ({})): AgentClient {
    const identity =
      name === undefined ? {} : { checkServerIdentity: (_: string, peer: PeerCertificate) => isNode(name, peer) };
    const agent = new https.Agent({ ...tls, ...identity, keepAlive: true, maxSockets: 32 });
    return new AgentClient({ kind: "tls", url: new URL(url), name, agent, headers });
  }

  /** How an operator would name the agent. */
  get label(): string {
    const endpoint = this.#endpoint;
    return endpoint.kind === "unix" ? endpoint.path : (endpoint.name ?? endpoint.url.href);
  }

  /**
   * The answer as it comes, whatever its status. Fails with `node-unreachable` when there is none. A connection kept from
   * earlier may be to an agent that is no more: then it is asked once again on another, for it cannot have heard the question.
   */
  async send(method: string, path: string, options: RequestOptions = {}): Promise<IncomingMessage> {
    for (;;) {
      try {
        return await this.#request(method, path, options);
      } catch (error) {
        if (!(error instanceof StaleConnection)) throw error;
      }
    }
  }

  #request(method: string, path: string, options: RequestOptions): Promise<IncomingMessage> {
    const { body, signal, timeoutMs = limits.peerTimeoutMs } = options;
    const text = body === undefined ? undefined : JSON.stringify(body);
    const endpoint = this.#endpoint;
    const headers = {
      ...(endpoint.kind === "tls" && endpoint.headers()),
      ...options.headers,
      ...(text !== undefined && {
        "content-type": "application/json",
        "content-length": String(Buffer.byteLength(text)),
      }),
    };
    return new Promise((resolve, reject) => {
      const request =
        endpoint.kind === "unix"
          ? http.request({ socketPath: endpoint.path, path, method, headers, agent: false, ...(signal && { signal }) })
          : https.request(new URL(path, endpoint.url), {
              method,
              headers,
              agent: endpoint.agent,
              ...(signal && { signal }),
            });
      const timer =
        timeoutMs > 0
          ? setTimeout(() => request.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs)
          : undefined;
      request.once("response", (response) => {
        clearTimeout(timer);
        // A peer that vanishes in mid-answer is told to whoever reads the body; without a reader it is nobody's concern.
        response.on("error", () => {});
        resolve(response);
      });
      request.on("error", (error) => {
        clearTimeout(timer);
        const stale =
          request.reusedSocket && ["ECONNRESET", "EPIPE"].includes((error as NodeJS.ErrnoException).code ?? "");
        reject(signal?.aborted ? signal.reason : stale ? new StaleConnection() : this.#unreachable(error));
      });
      request.end(text);
    });
  }

  /** Fails with the agent's own failure when it answers with one. */
  async json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.send(method, path, options);
    const document = await this.#document(response);
    if ((response.statusCode ?? 500) < 400) return document as T;
    throw failureOf(document, response.statusCode);
  }

  /** The documents of a streamed answer, one a line. */
  async *lines<T>(method: string, path: string, options: RequestOptions = {}): AsyncGenerator<T> {
    const response = await this.send(method, path, { timeoutMs: 0, ...options });
    if ((response.statusCode ?? 500) >= 400) throw failureOf(await this.#document(response), response.statusCode);
    let rest = "";
    response.setEncoding("utf8");
    try {
      for await (const chunk of response) {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop()!;
        for (const line of lines) if (line !== "") yield JSON.parse(line) as T;
      }
    } catch (error) {
      if (options.signal?.aborted) throw options.signal.reason;
      throw this.#unreachable(error);
    } finally {
      response.destroy();
    }
  }

  /** The bytes of an answer as they come. Fails when it does not end as a whole. */
  async *bytes(method: string, path: string, options: RequestOptions = {}): AsyncGenerator<Buffer> {
    const response = await this.send(method, path, { timeoutMs: 0, ...options });
    if ((response.statusCode ?? 500) >= 400) throw failureOf(await this.#document(response), response.statusCode);
    try {
      for await (const chunk of response) yield chunk as Buffer;
    } catch (error) {
      throw this.#unreachable(error);
    } finally {
      response.destroy();
    }
  }

  /** Ends connections that wait for a next question; those that are in use go on to their end. */
  retire(): void {
    if (this.#endpoint.kind !== "tls") return;
    for (const idle of Object.values(this.#endpoint.agent.freeSockets).flat()) idle?.destroy();
  }

  /** Ends all connections. */
  close(): void {
    if (this.#endpoint.kind === "tls") this.#endpoint.agent.destroy();
  }

  async #document(response: IncomingMessage): Promise<unknown> {
    let text = "";
    response.setEncoding("utf8");
    try {
      for await (const chunk of response) text += chunk;
    } catch (error) {
      throw this.#unreachable(error);
    }
    try {
      return text === "" ? {} : JSON.parse(text);
    } catch {
      return { error: { code: "internal", message: text.slice(0, 500) } };
    }
  }

  #unreachable(cause: unknown): OperatingError {
    const why = cause instanceof Error ? cause.message : String(cause);
    return new OperatingError("node-unreachable", `The agent at "${this.label}" does not answer: ${why}`, {
      remedy: "Check that the node is up and its agent runs: understudy nodes",
      details: { node: this.label },
      cause,
    });
  }
}

class StaleConnection extends Error {}

function isNode(name: string, peer: PeerCertificate): Error | undefined {
  const found = peer.subject?.CN;
  return found === name ? undefined : new Error(`the certificate there is of "${String(found)}", not of "${name}"`);
}

function failureOf(document: unknown, status: number | undefined): OperatingError {
  const failure = (document as { error?: Failure } | null)?.error;
  return failure?.message === undefined
    ? new OperatingError("internal", `The agent answered with HTTP status ${status}`)
    : fromFailure(failure);
}
