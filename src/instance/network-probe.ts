/**
 * Asks the application from inside its own network, over loopback: its output hold is not in the way, and what is asked leaves no
 * trace outside. The socket is made in that network and used from here.
 */
import { checked } from "../kernel/errors.ts";
import {
  AF_INET,
  closeSocket,
  connect,
  MSG_NOSIGNAL,
  receive,
  SO,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  send,
  setOption,
  socket,
  socketAddress,
} from "../kernel/socket.ts";
import type { Stage } from "../stage/stage.ts";
import type { Patience } from "./patience.ts";

/** connect(2) of a socket that does not wait: errno.h. */
const ON_ITS_WAY = new Set([-115 /* EINPROGRESS */, -114 /* EALREADY */, -11 /* EAGAIN */]);
const IS_CONNECTED = -106;
const AGAIN = -11;
/** Of an answer, as far as its first line. */
const MOST_BYTES = 4096;

export interface Target {
  stage: Pick<Stage, "inNetwork">;
  host: string;
  port: number;
}

/** @returns why it has failed; undefined: it has passed */
export async function probeTcp(target: Target, patience: Patience): Promise<string | undefined> {
  return withConnection(target, patience, async () => undefined);
}

/** @returns why it has failed; undefined: it has passed */
export async function probeHttp(target: Target, path: string, patience: Patience): Promise<string | undefined> {
  const where = `${target.host}:${target.port}${path}`;
  return withConnection(target, patience, async (fd) => {
    const lines = [`GET ${path} HTTP/1.1`, `Host: ${target.host}`, "User-Agent: understudy", "Connection: close"];
    const request = Buffer.from(`${lines.join("\r\n")}\r\n\r\n`);
    if (send(fd, request, MSG_NOSIGNAL) !== request.length) return `${where} does not take the question`;
    let answer = "";
    const ended = await patience.until(() => {
      const bytes = Buffer.alloc(MOST_BYTES);
      const read = receive(fd, bytes, 0);
      if (read === AGAIN) return undefined;
      if (read <= 0) return true;
      if (answer.length < MOST_BYTES) answer += bytes.toString("latin1", 0, read);
      // All of it is read, so that the server sees an end and no reset; of one that does not end, enough to know.
      return undefined;
    });
    const [, status] = /^HTTP\/1\.[01] (\d{3})/.exec(answer) ?? [];
    if (status === undefined) return `${where} ${ended ? "ends the connection without an answer" : "does not answer"}`;
    return Number(status) < 400 ? undefined : `${where} answers with status ${status}`;
  });
}

async function withConnection(
  { stage, host, port }: Target,
  patience: Patience,
  talk: (fd: number) => Promise<string | undefined>,
): Promise<string | undefined> {
  const fd = stage.inNetwork(() => checked(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC), "socket"));
  let failure: string | undefined = "";
  try {
    const address = socketAddress(host, port);
    const result = await patience.until(() => {
      const now = connect(fd, address);
      return ON_ITS_WAY.has(now) ? undefined : now;
    });
    if (result === undefined) failure = `no connection to ${host}:${port}`;
    else if (result < 0 && result !== IS_CONNECTED) failure = `no connection to ${host}:${port} (errno ${-result})`;
    else failure = await talk(fd);
    return failure;
  } finally {
    // What has failed leaves nothing that waits for its peer.
    const atOnce = Buffer.from(Int32Array.of(1, 0).buffer);
    if (failure !== undefined) setOption(fd, SOL_SOCKET, SO.linger, atOnce);
    closeSocket(fd);
  }
}
