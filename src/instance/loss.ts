/** How a connection to another instance was lost, as its end tells; what it means is found out by the agent (diagnosis.ts). */
export type LossKind =
  /** The peer said goodbye. */
  | "goodbye"
  /** The peer's kernel closed it: the process has ended, or its machine is going down in order. */
  | "closed"
  /** An error of the connection, or bytes that are not well-formed. */
  | "failed"
  /** Nothing came any more. */
  | "silent"
  /** Given up by rule (replication/pace.ts). */
  | "slow";
