/**
 * Tokens: what somebody shows to be let in. The store holds only their hash; a token has 256 random bits, so that a plain hash is
 * enough. `KIND.ID.SECRET[.MORE]`, all parts of letters that need no quoting.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

export interface Secret {
  /** To be shown once. */
  secret: string;
  /** SHA-256, base64url: what is kept. */
  hash: string;
}

export function makeSecret(): Secret {
  const secret = randomBytes(32).toString("base64url");
  return { secret, hash: hashOf(secret) };
}

export function isSecret(secret: string, hash: string): boolean {
  const [given, kept] = [Buffer.from(hashOf(secret)), Buffer.from(hash)];
  return given.length === kept.length && timingSafeEqual(given, kept);
}

function hashOf(secret: string): string {
  return createHash("sha256").update(secret).digest("base64url");
}
