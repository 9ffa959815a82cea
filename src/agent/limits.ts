/** Every bound and pace of the agent in one place. */
export const limits = {
  /** Names of nodes, as in certificates. */
  namePattern: /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
  /** A reconcile at least this often; events make it happen at once. */
  reconcilePeriodMs: 500,
  /** Between two attempts to bring a clone to the same node; doubles with each failure. */
  retryFirstMs: 500,
  retryLastMs: 5_000,
  /** A peer's agent that does not answer a health question in this time counts as down. */
  peerHealthTimeoutMs: 1_500,
  /** After so many health questions without an answer an operation on the peer is given up. */
  peerFailures: 2,
  /** A peer that does not begin to answer another question in this time. */
  peerTimeoutMs: 15_000,
  /** An instance answers `status` from its event loop, which a checkpoint occupies for milliseconds. */
  statusTimeoutMs: 2_000,
  /** From the spawn of an instance until its control socket answers. */
  instanceStartTimeoutMs: 20_000,
  /** From `begin: start` until the application runs. */
  applicationStartTimeoutMs: 60_000,
  /** A clone that is asked for listens after this time, or the attempt has failed. */
  cloneStartTimeoutMs: 15_000,
  /** First synchronisations of one standby that `protect` begins before it gives up. */
  synchronisationAttempts: 4,
  /** A first synchronisation that makes no progress for so long has failed. */
  synchronisationStallMs: 30_000,
  /** A node that is being emptied on which nothing changes for so long is not emptied. */
  drainStallMs: 60_000,
  /** What a switch came to is looked for in the record for so long, when the instance that made it does not say. */
  switchOutcomeMs: 5_000,
  /** A program that ends within this time after its start "ended at once". */
  settleMs: 300,
  /** An instance that is asked to stop and has not after this time is killed. */
  stopTimeoutMs: 5_000,
  /** What is left on a planned switch's old primary may answer its caller for so long. */
  handOverGraceMs: 2_000,
  /** Events that the agent remembers. */
  eventsKept: 2_000,
  /** Bodies of requests. */
  bodyBytes: 1024 * 1024,
} as const;
