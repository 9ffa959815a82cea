/** What a page stream is about, without its content; see native/memory.cc for its form. */
import { PAGE_BYTES } from "../kernel/numbers.ts";

/** Pages that a stream holds as a whole. */
export function* wholePages(stream: Buffer): Generator<{ address: number }> {
  for (let at = 0; at < stream.length; ) {
    const address = Number(stream.readBigUInt64LE(at));
    const kind = stream.readUInt16LE(at + 8);
    const patches = stream.readUInt16LE(at + 10);
    const bytes = stream.readUInt32LE(at + 12);
    at += 16 + (kind === 1 ? 4 * patches : 0) + (kind === 2 ? 0 : bytes);
    if (kind === 1) continue;
    const pages = kind === 2 ? bytes : bytes / PAGE_BYTES;
    for (let i = 0; i < pages; i++) yield { address: address + i * PAGE_BYTES };
  }
}
