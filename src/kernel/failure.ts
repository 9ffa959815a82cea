/** Operating errors: what went wrong outside the program, told so that the operator knows what to do. */

export interface OperatingErrorOptions {
  /** What the operator can do about it; one sentence. */
  remedy?: string;
  cause?: unknown;
  /** Operands, for machines: `{ application: "redis" }`. */
  details?: Record<string, unknown>;
}

export class OperatingError extends Error {
  override readonly name = "OperatingError";
  /** Stable, kebab-case: scripts may depend on it. */
  readonly code: string;
  readonly remedy: string | undefined;
  readonly details: Record<string, unknown>;

  constructor(code: string, message: string, options: OperatingErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.remedy = options.remedy;
    this.details = options.details ?? {};
  }
}

/** A failure as plain data, for the control protocol and the API. */
export interface Failure {
  code: string;
  message: string;
  remedy?: string;
  details?: Record<string, unknown>;
}

export function toFailure(error: unknown): Failure {
  if (error instanceof OperatingError) {
    const { code, message, remedy, details } = error;
    return {
      code,
      message,
      ...(remedy === undefined ? {} : { remedy }),
      ...(Object.keys(details).length ? { details } : {}),
    };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: "internal", message };
}

export function fromFailure(failure: Failure): OperatingError {
  return new OperatingError(failure.code, failure.message, {
    ...(failure.remedy === undefined ? {} : { remedy: failure.remedy }),
    ...(failure.details === undefined ? {} : { details: failure.details }),
  });
}
