/**
 * Requests to etcd's JSON gateway (Debian's etcd-server 3.4, `/v3/…`), to whichever member answers. A member that is silent says
 * nothing: it may be dead, or have passed the request on to a leader that has just died, where it is lost while an election
 * goes on. So each request is made again, to the next member, as long as no answer has come; the first answer counts. Therefore
 * a request must be one that may be done twice.
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
  /** Milliseconds for an answer. */
  answerMs: number;
}

/** Without an answer for so long the next member is asked as well; for what others wait for, sooner, and twice as late each round. */
const AGAIN_MS = 120;
const URGENT_AGAIN_MS = 30;
/** After a refusal: at once where a member is left that was not asked, later when all have refused. */
const NEXT_MS = 5;
const ALL_REFUSED_MS = 100;
const URGENT_ALL_REFUSED_MS = 20;

export interface EtcdAnswer {
  body: unknown;
  /** More than one, and an earlier one may have been done, too. */
  attempts: number;
}

export class EtcdClient {
  readonly #options: EtcdClientOptions;
  #agent: HttpAgent | HttpsAgent;
  /** The member that answered last comes first. */
  #preferred = 0;

  constructor(options: EtcdClientOptions) {
    this.#options = options;
    this.#agent =
      options.tls === undefined
        ? new HttpAgent({ keepAlive: true })
        : new HttpsAgent({ keepAlive: true, ...options.tls });
  }

  /** Connections made from now on show this certificate; those that are open go on. */
  renew(tls: MutualTlsOptions): void {
    const before = this.#agent;
    this.#agent = new HttpsAgent({ keepAlive: true, ...tls });
    for (const idle of Object.values(before.freeSockets).flat()) idle?.destroy();
  }

  /**
   * The first answer of any member; rejects with the last failure when none comes in time.
   * @param urgent an application may stand still until it comes
   */
  ask(path: string, body: unknown, urgent = false): Promise<EtcdAnswer> {
    const { endpoints, answerMs } = this.#options;
    const allRefusedMs = urgent ? URGENT_ALL_REFUSED_MS : ALL_REFUSED_MS;
    const againMs = (round: number) => (urgent ? Math.min(AGAIN_MS, URGENT_AGAIN_MS * 2 ** round) : AGAIN_MS);
    const done = new AbortController();
    return new Promise<EtcdAnswer>((resolve, reject) => {
      let attempts = 0;
      let failure = new Error(`No answer within ${answerMs} ms`);
      let next: NodeJS.Timeout | undefined;
      const deadline = setTimeout(() => reject(failure), answerMs);
      done.signal.addEventListener("abort", () => {
        clearTimeout(next);
        clearTimeout(deadline);
      });
      const attempt = (): void => {
        const own = ++attempts;
        const member = (this.#preferred + own - 1) % endpoints.length;
        clearTimeout(next);
        next = setTimeout(attempt, againMs(Math.floor((own - 1) / endpoints.length)));
        this.#answer(member, path, body, done.signal).then(
          (answer) => {
            if (!done.signal.aborted) this.#preferred = member;
            resolve({ body: answer, attempts });
          },
          (error: Error) => {
            if (done.signal.aborted) return;
            failure = error;
            // A later one is under way already.
            if (own !== attempts) return;
            clearTimeout(next);
            next = setTimeout(attempt, own % endpoints.length === 0 ? allRefusedMs : NEXT_MS);
          },
        );
      };
      attempt();
    }).finally(() => done.abort());
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

  async #answer(member: number, path: string, body: unknown, signal: AbortSignal): Promise<unknown> {
    const response = await this.#send(member, path, body, signal);
    let text = "";
    for await (const chunk of response.setEncoding("utf8")) text += chunk;
    // No leader, or one that changed meanwhile: etcd itself does not know whether it was done.
    if (response.statusCode !== 200) throw new Error(`etcd answered ${response.statusCode}: ${text.slice(0, 200)}`);
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
        reject(new Error(`${endpoints[member]}: ${cause.message}`, { cause }));
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
