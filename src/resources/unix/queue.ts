/** What waits in a unix socket's queue, looked at in the stop; it stays there. */
import { call } from "../../kernel/calls.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { MSG_CTRUNC, MSG_PEEK, MSG_TRUNC, receiveMessage } from "../../kernel/message.ts";
import { SOL_SOCKET } from "../../kernel/socket.ts";
import type { Description, DumpContext } from "../kind.ts";
import { readOption } from "../socket-options.ts";
import type { UnixDiagnosis } from "./diag.ts";
import { type EmptyMessage, seenAt, withEmpty } from "./empty.ts";
import { SO, SOCK_STREAM, type UnixMessage } from "./state.ts";

const RECEIVE_SHUTDOWN = 1;
/** struct pollfd {fd, events, revents} */
const question = Buffer.alloc(8);
const POLLIN = 1;
let scratch = Buffer.alloc(1 << 18);
const integer = Buffer.alloc(4);

export interface QueueLook {
  /** This process's descriptor of the socket. */
  fd: number;
  description: Description;
  diagnosis: UnixDiagnosis;
  context: DumpContext;
  /** To be done once all sockets have been looked at: whose a descriptor in flight is may show at another one. */
  later: Array<() => void>;
}

function setPeekOffset(fd: number, offset: number): void {
  integer.writeInt32LE(offset);
  call("setsockopt", fd, SOL_SOCKET, SO.peekOffset, integer, 4);
}

/** Errors that wait for the application are left alone by it. */
function isReadable(fd: number): boolean {
  question.writeInt32LE(fd, 0);
  question.writeInt32LE(POLLIN, 4);
  return call("poll", question, 1, 0) > 0 && (question.readInt16LE(6) & POLLIN) !== 0;
}

/** First come first. Errors: `unprotectable-unix-socket`, also in `later` */
export function peekQueue(look: QueueLook): UnixMessage[] {
  const { fd, context, diagnosis } = look;
  if (diagnosis.type === SOCK_STREAM) return shown(look, 0);
  if (!isReadable(fd)) return [];
  const seen = seenAt(fd);
  if (seen === undefined) return shown(look, 0, true);
  const [first] = seen;
  const messages = shown(look, seen.length, typeof first === "object" && first.files.length > 0);
  const asked = readOption(fd, SOL_SOCKET, SO.passCredentials).readInt32LE() !== 0;
  const all = withEmpty(seen, messages, ({ from, credentials, files }) => {
    const sender = asked ? { ...credentials, pid: context.virtualPid(credentials.pid) } : undefined;
    const message: UnixMessage = { content: Buffer.alloc(0), descriptors: [], from, credentials: sender };
    if (files.length > 0) look.later.push(() => message.descriptors.push(...holders(files, look)));
    return message;
  });
  if (all === undefined) throw untold(look.description, "it does not hold still");
  return all;
}

function holders(files: EmptyMessage["files"], { description, context }: QueueLook): string[] {
  return files.map((file) => {
    const id = context.holder(file)?.id;
    if (id !== undefined) return id;
    throw untold(
      description,
      "an empty message has descriptors that nobody else has, and the kernel shows them only once",
    );
  });
}

/**
 * Each look with an offset set goes on behind the one before (SO_PEEK_OFF), but shows an empty message only to the first look ever; one
 * without an offset always shows the first message.
 * @param count of messages there are at least
 * @param firstToo the first one may be one that was shown before
 */
function shown({ fd, description, diagnosis, context }: QueueLook, count: number, firstToo = false): UnixMessage[] {
  const { type, shutdown } = diagnosis;
  const messages: UnixMessage[] = [];
  // Behind the last one a socket that receives nothing more shows an empty one without end.
  const ends = () => type === SOCK_STREAM || ((shutdown & RECEIVE_SHUTDOWN) !== 0 && messages.length >= count);
  const before = readOption(fd, SOL_SOCKET, SO.peekOffset).readInt32LE();
  try {
    if (firstToo) {
      setPeekOffset(fd, -1);
      const first = lookOnce(fd, context);
      if (first.result === 0 && !ends()) messages.push(messageOf(first, description, context));
    }
    setPeekOffset(fd, 0);
    for (let offset = 0; ; ) {
      const next = lookOnce(fd, context);
      if (next.result < 0 || (next.result === 0 && ends())) return messages;
      if ((next.flags & MSG_TRUNC) !== 0) {
        scratch = Buffer.alloc(2 * next.result);
        setPeekOffset(fd, offset);
        continue;
      }
      offset += next.result;
      messages.push(messageOf(next, description, context));
    }
  } finally {
    setPeekOffset(fd, before);
  }
}

type Look = ReturnType<typeof lookOnce>;

function lookOnce(fd: number, context: DumpContext) {
  const { fds, ...received } = receiveMessage(fd, scratch, MSG_PEEK | MSG_TRUNC);
  return { ...received, descriptors: fds.map((own) => context.adopt(own).id) };
}

function messageOf(look: Look, description: Description, context: DumpContext): UnixMessage {
  const { result, flags, from, descriptors, credentials } = look;
  if ((flags & MSG_CTRUNC) !== 0) throw untold(description, "more descriptors are in flight than can be looked at");
  const sender = credentials && { ...credentials, pid: context.virtualPid(credentials.pid) };
  return { content: Buffer.from(scratch.subarray(0, result)), descriptors, from, credentials: sender };
}

function untold({ fd, link, pid }: Description, why: string): OperatingError {
  return new OperatingError(
    "unprotectable-unix-socket",
    `What waits at the unix socket ${link} (descriptor ${fd}) cannot be told: ${why}`,
    { remedy: "Let the application receive what waits there.", details: { fd, link, pid } },
  );
}
