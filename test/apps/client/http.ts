/** HTTP/1.1 on one connection kept alive, by hand: a library would quietly open another when the first one breaks. */
import { createHash } from "node:crypto";
import type { Conversation } from "./conversation.ts";
import { expect } from "./conversation.ts";
import { type Target, Wire } from "./wire.ts";

export interface Head {
  status: number;
  length: number | "chunked";
  headers: Map<string, string>;
}

export function ask(wire: Wire, { host }: Target, method: string, path: string, body = ""): void {
  const length = method === "GET" ? "" : `Content-Length: ${Buffer.byteLength(body)}\r\n`;
  wire.write(`${method} ${path} HTTP/1.1\r\nHost: ${host}\r\n${length}\r\n${body}`);
}

export async function readHead(wire: Wire): Promise<Head> {
  const [, status = "0"] = (await wire.line()).split(" ");
  const headers = new Map<string, string>();
  for (let line = await wire.line(); line !== ""; line = await wire.line()) {
    const colon = line.indexOf(":");
    headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  const length = headers.get("transfer-encoding") === "chunked" ? "chunked" : Number(headers.get("content-length"));
  return { status: Number(status), length, headers };
}

async function readBody(wire: Wire, { length }: Head): Promise<Buffer> {
  if (length !== "chunked") return wire.bytes(length);
  const chunks: Buffer[] = [];
  for (;;) {
    const size = Number.parseInt(await wire.line(), 16);
    chunks.push(await wire.bytes(size));
    await wire.line();
    if (size === 0) return Buffer.concat(chunks);
  }
}

/** POST /add/NAME is answered with that name's count. */
export async function openCounting(target: Target, index: number): Promise<Conversation> {
  const wire = await Wire.open(target);
  const name = `client-${process.pid}-${index}`;
  let count = 0;
  return {
    async turn() {
      ask(wire, target, "POST", `/add/${name}`, "one");
      const head = await readHead(wire);
      expect(`${head.status} ${await readBody(wire, head)}`, `200 ${++count}`, "count");
    },
    close: () => wire.close(),
  };
}

/** GET of a page whose content is known, again and again. */
export async function openPages(target: Target, _index: number, page: string, sha256: string): Promise<Conversation> {
  const wire = await Wire.open(target);
  return {
    async turn() {
      ask(wire, target, "GET", page);
      const head = await readHead(wire);
      const body = await readBody(wire, head);
      expect(`${head.status} ${createHash("sha256").update(body).digest("hex")}`, `200 ${sha256}`, page);
    },
    close: () => wire.close(),
  };
}

/** One long download, checked by its digest at its end; a turn is a piece of it. The next download begins on the same connection. */
export async function openDownload(
  target: Target,
  _index: number,
  page: string,
  sha256: string,
): Promise<Conversation> {
  const wire = await Wire.open(target);
  let left = 0;
  let digest = createHash("sha256");
  const piece = async () => {
    if (left === 0) {
      ask(wire, target, "GET", page);
      const head = await readHead(wire);
      expect(String(head.status), "200", page);
      left = Number(head.length);
      digest = createHash("sha256");
    }
    const bytes = await wire.bytes(Math.min(left, 64 * 1024));
    digest.update(bytes);
    left -= bytes.length;
    if (left === 0) expect(digest.digest("hex"), sha256, `digest of ${page}`);
  };
  return {
    turn: piece,
    // The one under way to its end.
    async verify() {
      while (left > 0) await piece();
    },
    close: () => wire.close(),
  };
}
