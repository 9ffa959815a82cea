/** Checksums: of packets, and of streams. */
import { addon } from "./addon.ts";

/** The internet checksum (RFC 1071). */
export function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2)
    sum += bytes.readUInt8(i) * 256 + (i + 1 < bytes.length ? bytes.readUInt8(i + 1) : 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** CRC-32C (RFC 3720, B.4) of what `previous` is of, and of these bytes behind it. */
export function crc32c(bytes: Buffer, previous = 0): number {
  return addon.crc32c(bytes, previous);
}
