/** The body of a request. */
import type { Context } from "hono";
import { OperatingError } from "../kernel/failure.ts";

/** @throws OperatingError `request-invalid` */
export async function jsonBody(c: Context): Promise<unknown> {
  try {
    const text = await c.req.text();
    return text === "" ? {} : JSON.parse(text);
  } catch (cause) {
    throw new OperatingError("request-invalid", "The request's body is not JSON", { cause });
  }
}
