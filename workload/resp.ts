/** The Redis wire protocol (RESP2), as much as a client needs: https://redis.io/docs/latest/develop/reference/protocol-spec/ */

/** An error answer (`-ERR …`) is a value, not an exception: the caller judges it. */
export class ErrorReply {
  readonly message: string;
  constructor(message: string) {
    this.message = message;
  }
}

export type Reply = string | number | null | ErrorReply | Reply[];

const CR = 13;

/** One command as bytes: `["SET", "k", "v"]` becomes an array of bulk strings. */
export function encodeCommand(words: readonly string[]): string {
  let text = `*${words.length}\r\n`;
  for (const word of words) text += `$${Buffer.byteLength(word)}\r\n${word}\r\n`;
  return text;
}

/** Takes bytes as they come in pieces of any size, gives whole replies. */
export class ReplyParser {
  #rest: Buffer = Buffer.alloc(0);

  /** All replies that are complete with these bytes. Throws ProtocolError when the bytes are no RESP. */
  push(bytes: Buffer): Reply[] {
    const data = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const replies: Reply[] = [];
    let at = 0;
    for (;;) {
      const parsed = parseReply(data, at);
      if (parsed === undefined) break;
      replies.push(parsed.reply);
      at = parsed.end;
    }
    this.#rest = data.subarray(at);
    return replies;
  }
}

export class ProtocolError extends Error {}

function parseReply(data: Buffer, at: number): { reply: Reply; end: number } | undefined {
  if (at >= data.length) return undefined;
  const lineEnd = data.indexOf("\r\n", at);
  if (lineEnd < 0) return undefined;
  const line = data.toString("latin1", at + 1, lineEnd);
  const end = lineEnd + 2;
  switch (String.fromCharCode(data[at]!)) {
    case "+":
      return { reply: line, end };
    case "-":
      return { reply: new ErrorReply(line), end };
    case ":":
      return { reply: integer(line), end };
    case "$":
      return parseBulk(data, end, integer(line));
    case "*":
      return parseArray(data, end, integer(line));
    default:
      throw new ProtocolError(`Reply begins with byte ${data[at]}, which is no RESP type`);
  }
}

function parseBulk(data: Buffer, at: number, length: number): { reply: Reply; end: number } | undefined {
  if (length < 0) return { reply: null, end: at };
  if (data.length < at + length + 2) return undefined;
  if (data[at + length] !== CR) throw new ProtocolError(`Bulk string of ${length} bytes does not end where it should`);
  return { reply: data.toString("utf8", at, at + length), end: at + length + 2 };
}

function parseArray(data: Buffer, at: number, length: number): { reply: Reply; end: number } | undefined {
  if (length < 0) return { reply: null, end: at };
  const items: Reply[] = [];
  let next = at;
  for (let i = 0; i < length; i++) {
    const item = parseReply(data, next);
    if (item === undefined) return undefined;
    items.push(item.reply);
    next = item.end;
  }
  return { reply: items, end: next };
}

function integer(text: string): number {
  if (!/^-?\d+$/.test(text)) throw new ProtocolError(`Expected an integer, got ${JSON.stringify(text)}`);
  return Number(text);
}
