/** Limits of the stream between nodes. */
export const LIMITS = {
  /** Longest payload of one frame, bytes. */
  frameBytes: 32 << 20,
  /** Written and not yet taken by the network: a sender waits beyond it, bytes. */
  unsentBytes: 16 << 20,
  /** The same for a first copy: more than the processor's cache holds is slower to send, and signs of life wait behind it. */
  unsentCopyBytes: 2 << 20,
  /** A connection must say hello within this time. */
  helloMs: 5000,
} as const;
