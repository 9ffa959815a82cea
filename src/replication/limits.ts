/** Limits of the stream between nodes. */
export const LIMITS = {
  /** Longest payload of one frame, bytes. */
  frameBytes: 32 << 20,
  /** Written and not yet taken by the network: a sender waits beyond it, bytes. */
  unsentBytes: 16 << 20,
  /** A connection must say hello within this time. */
  helloMs: 5000,
} as const;
