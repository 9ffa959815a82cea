/**
 * Requests to etcd's JSON gateway (Debian's etcd-server 3.4, `/v3/…`), to whichever member answers. Of a failed request
 * it matters whether it can have arrived: one that was never sent is tried with the next member, one that was may have
 * been done.
 */
import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import type { Socket } from "node:net";
import type { MutualTlsOptions } from "./tls.ts";

export interface EtcdClientOptions {
  /** `host:port` of the members. */
  endpoints: string[];
  /** Undefined: without encryption, for a store on the same machine. */
  tls: MutualTlsOptions | undefined;
  /** Milliseconds for a connection to one member. */
  connectMs: number;
  /** Milliseconds for one answer. */
  answerMs: number;
}

/** The member did not answer. `sent`: the request may have arrived. */
export class EtcdFailure extends Error {
  readonly sent: boolean;

  constructor(message: string, sent: boolean, cause?: unknown) {
    super(message, { cause });
    this.sent = sent;
  }
}

export class EtcdClient {
  readonly #options: EtcdClientOptions;
  readonly #agent: HttpAgent | HttpsAgent;
  /** The member that answered last comes first. */
  #preferred = 0;

  constructor(options: EtcdClientOptions) {
    this.#options = options;
    this.#agent =
      options.tls === undefined
        ? new HttpAgent({ keepAlive: true })
        : new HttpsAgent({ keepAlive: true, ...options.tls });
  }

  /** For what may be done twice: asks one member after the other. */
  read(path: string, body: unknown): Promise<unknown> {
    return this.#ask(path, body, () => true);
  }

  /** For what may not: the next member is asked only if the request never left. */
  write(path: string, body: unknown): Promise<unknown> {
    return this.#ask(path, body, (failure) => !failure.sent);
  }

  /** A stream of JSON lines; ends with the connection or by `signal`. */
  async *stream(path: string, body: unknown, signal: AbortSignal): AsyncGenerator<unknown> {
    const response = await this.#send(this.#preferred, path, body, signal);
    let rest = "";
    for await (const chunk of response.setEncoding("utf8")) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop()!;
      for (const line of lines) if (line.trim() !== "") yield JSON.parse(line);
    }
  }

  /** Another member, when this one is silent. */
  turnAway(): void {
    this.#preferred = (this.#preferred + 1) % this.#options.endpoints.length;
  }

  close(): void {
    this.#agent.destroy();
  }

  async #ask(path: string, body: unknown, mayRepeat: (failure: EtcdFailure) => boolean): Promise<unknown> {
    const { endpoints, answerMs } = this.#options;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#answer(path, body, AbortSignal.timeout(answerMs));
      } catch (error) {
        const failure = error instanceof EtcdFailure ? error : new EtcdFailure(String(error), true, error);
        this.turnAway();
        if (attempt >= endpoints.length || !mayRepeat(failure)) throw failure;
      }
    }
  }

  async #answer(path: string, body: unknown, signal: AbortSignal): Promise<unknown> {
    const response = await this.#send(this.#preferred, path, body, signal);
    let text = "";
    try {
      for await (const chunk of response.setEncoding("utf8")) text += chunk;
    } catch (cause) {
      throw new EtcdFailure("The answer broke off", true, cause);
    }
    // No leader, or one that changed meanwhile: etcd itself does not know whether it was done.
    if (response.statusCode !== 200)
      throw new EtcdFailure(`etcd answered ${response.statusCode}: ${text.slice(0, 200)}`, true);
    return JSON.parse(text);
  }

  #send(member: number, path: string, body: unknown, signal: AbortSignal): Promise<IncomingMessage> {
    const { endpoints, tls, connectMs } = this.#options;
    const [host, port] = splitEndpoint(endpoints[member]!);
    const text = JSON.stringify(body);
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(text) };
    return new Promise((resolve, reject) => {
      let connected = false;
      const request = (tls === undefined ? requestHttp : requestHttps)({
        host,
        port,
        path,
        method: "POST",
        headers,
        agent: this.#agent,
        signal,
      });
      const timer = setTimeout(() => {
        if (!connected) request.destroy(new Error(`No connection within ${connectMs} ms`));
      }, connectMs);
      request.on("socket", (socket: Socket) => {
        const opened = () => {
          connected = true;
          clearTimeout(timer);
        };
        if (request.reusedSocket) opened();
        else socket.once(tls === undefined ? "connect" : "secureConnect", opened);
      });
      request.on("error", (cause) => {
        clearTimeout(timer);
        reject(new EtcdFailure(`${endpoints[member]}: ${cause.message}`, connected, cause));
      });
      request.on("response", (response) => {
        clearTimeout(timer);
        resolve(response);
      });
      request.end(text);
    });
  }
}

function splitEndpoint(endpoint: string): [host: string, port: number] {
  const at = endpoint.lastIndexOf(":");
  return [endpoint.slice(0, at).replace(/^\[|\]$/g, ""), Number(endpoint.slice(at + 1))];
}
