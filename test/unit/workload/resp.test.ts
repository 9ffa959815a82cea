import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ErrorReply, encodeCommand, ProtocolError, type Reply, ReplyParser } from "../../../workload/resp.ts";

function encodeReply(reply: Reply): string {
  if (reply === null) return "$-1\r\n";
  if (typeof reply === "number") return `:${reply}\r\n`;
  if (typeof reply === "string") return `$${Buffer.byteLength(reply)}\r\n${reply}\r\n`;
  if (reply instanceof ErrorReply) return `-${reply.message}\r\n`;
  return `*${reply.length}\r\n${reply.map(encodeReply).join("")}`;
}

const replies = fc.array(
  fc.letrec<{ reply: Reply }>((tie) => ({
    reply: fc.oneof(
      { maxDepth: 3 },
      fc.constant(null),
      fc.integer(),
      fc.string({ unit: "grapheme" }),
      fc.stringMatching(/^[A-Z]{3,8} [a-z ]{0,20}$/).map((text) => new ErrorReply(text)),
      fc.array(tie("reply"), { maxLength: 4 }),
    ),
  })).reply,
);

test("replies survive being cut into pieces anywhere", () => {
  fc.assert(
    fc.property(replies, fc.array(fc.nat(40)), (sent, cuts) => {
      const bytes = Buffer.from(sent.map(encodeReply).join(""));
      const parser = new ReplyParser();
      const got: Reply[] = [];
      let at = 0;
      for (const length of [...cuts, bytes.length]) {
        got.push(...parser.push(bytes.subarray(at, at + length)));
        at = Math.min(bytes.length, at + length);
      }
      assert.deepEqual(got, sent);
    }),
  );
});

test("a command is an array of bulk strings with lengths in bytes", () => {
  assert.equal(encodeCommand(["SET", "k", "ä"]), "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nä\r\n");
});

test("bytes that are no RESP are refused", () => {
  for (const bytes of ["HTTP/1.1 400\r\n", ":12x\r\n", "$3\r\nabcdef\r\n"]) {
    assert.throws(() => new ReplyParser().push(Buffer.from(bytes)), ProtocolError);
  }
});
