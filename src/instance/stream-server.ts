/** Listens for the stream of a primary; the view machine decides whether it is accepted. */
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { Identity } from "../cluster/identity.ts";
import { peerName } from "../cluster/tls.ts";
import { type Hello, STREAM_VERSION } from "../replication/frames.ts";
import { LIMITS } from "../replication/limits.ts";
import { Link } from "../replication/link.ts";
import type { InstanceShell } from "./shell.ts";

export interface Asking {
  link: Link;
  hello: Hello;
}

/** OpenSSL's own word for what was wrong: the message is a line of its numbers. */
interface TlsError extends Error {
  reason?: string;
}

export class StreamServer {
  readonly #shell: InstanceShell;
  readonly #identity: Identity;
  #server: Server | undefined;
  /** A stream whose acceptance the view machine has to decide. */
  #asking: Asking | undefined;
  port = 0;

  constructor(shell: InstanceShell, identity: Identity) {
    this.#shell = shell;
    this.#identity = identity;
  }

  /** Resolves when the port is known. */
  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      const server = createServer({ ...this.#identity.options }, (socket) => this.#accept(socket));
      server.on("tlsClientError", (error: TlsError, socket) => {
        socket.destroy();
        const why = error.reason ?? error.message;
        this.#shell.note("stream-refused", `A connection without a certificate of this cluster was refused: ${why}`);
      });
      server.once("error", reject);
      server.listen(0, this.#shell.config.listenHost, () => {
        this.port = (server.address() as { port: number }).port;
        resolve();
      });
      this.#identity.onRenewed((tls) => server.setSecureContext(tls));
      this.#server = server;
    });
  }

  #accept(socket: TLSSocket): void {
    const peer = peerName(socket);
    if (!peer) {
      socket.destroy();
      return;
    }
    const link = new Link(socket, peer);
    const timer = setTimeout(() => link.close(), LIMITS.helloMs);
    link.onMessage = (message) => {
      clearTimeout(timer);
      if (message.type === "hello") this.#greeted(link, message.hello);
      else link.close();
    };
    link.onClose = () => clearTimeout(timer);
  }

  #greeted(link: Link, hello: Hello): void {
    const refuse = (reason: string) => {
      link.send({ type: "refused", reason });
      link.goodbye(reason);
    };
    const reason = this.#reasonToRefuse(link, hello);
    if (reason !== undefined) {
      refuse(reason);
      return;
    }
    this.#asking = { link, hello };
    this.#shell.view.tell({ kind: "viewSeen", view: hello.view, revision: hello.revision });
    this.#shell.view.tell({ kind: "syncStarted", term: hello.term, revision: hello.revision, stream: hello.stream });
    if (this.#asking) {
      this.#asking = undefined;
      refuse("this instance is no standby");
    }
  }

  #reasonToRefuse(link: Link, hello: Hello): string | undefined {
    const { name } = this.#shell.config.application;
    if (hello.version !== STREAM_VERSION) return `stream version ${hello.version}, known is ${STREAM_VERSION}`;
    if (hello.application !== name) return `application "${hello.application}" is not cloned here`;
    if (hello.node !== link.peer) return `node "${hello.node}" has the certificate of "${link.peer}"`;
    return this.#asking ? "another stream is being accepted" : undefined;
  }

  /** The stream that asks, for whoever decides about it now. */
  take(): Asking | undefined {
    const asking = this.#asking;
    this.#asking = undefined;
    return asking;
  }

  /** Tells the primary that asks what is known here. */
  refuse(): void {
    const asking = this.take();
    if (!asking) return;
    const { confirmed } = this.#shell.view.state;
    const view = confirmed?.view;
    asking.link.send({
      type: "refused",
      reason: "a higher term is known here",
      ...(view ? { view, revision: confirmed!.revision } : {}),
    });
    asking.link.goodbye("refused");
  }

  close(): void {
    this.#server?.close();
  }
}
