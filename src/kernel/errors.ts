/** Errors of system calls: they name the call, its arguments and the errno. */
import { getSystemErrorMessage, getSystemErrorName } from "node:util";

export class SystemCallError extends Error {
  override readonly name = "SystemCallError";
  readonly call: string;
  readonly errno: number;
  readonly code: string;

  /** @param errno negative, as the kernel returned it */
  constructor(call: string, errno: number, detail = "") {
    const code = getSystemErrorName(errno);
    super(`${call}${detail ? `(${detail})` : ""} failed: ${code}, ${getSystemErrorMessage(errno)}`);
    this.call = call;
    this.errno = errno;
    this.code = code;
  }
}

/** Returns `result`, or throws when it is −errno. */
export function checked(result: number, call: string, detail?: string | number): number {
  if (result < 0) throw new SystemCallError(call, result, detail === undefined ? "" : String(detail));
  return result;
}
