import { OperatingError } from "./failure.ts";

/**
 * What an operator can do something about shall not look like a fault of the program: `disk-full` for what failed with ENOSPC, anything
 * else as it is.
 * @param directory where the node's clones have their files
 */
export function diskFull(cause: unknown, node: string, directory: string): unknown {
  const { code, message } = cause as { code?: unknown; message?: unknown };
  if (code !== "ENOSPC" && !String(message).includes("ENOSPC")) return cause;
  return new OperatingError("disk-full", `"${node}" has no space left for a clone in "${directory}"`, {
    remedy: "Make room there; the clone is then made by itself.",
    details: { node, directory },
    cause,
  });
}
