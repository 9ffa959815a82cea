/** Renews this node's certificate when two thirds of its time are over, and says so when it cannot. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Identity } from "../cluster/identity.ts";
import { installCertificate, requestCertificate, type Signed } from "../cluster/pki.ts";
import { toFailure } from "../kernel/failure.ts";
import type { AgentContext } from "./context.ts";
import { atAuthority, renewFor } from "./join.ts";

const RENEW_AT = 2 / 3;
/** A timer cannot be set for longer than some 24 days; and a clock may be set. */
const LONGEST_WAIT_MS = 60 * 60 * 1000;
const SHORTEST_WAIT_MS = 250;
/** After a failure: a share of the time that is left. */
const RETRY_SHARE = 1 / 20;

/** Runs until the signal aborts. */
export async function keepRenewed(context: AgentContext, identity: Identity, signal: AbortSignal): Promise<void> {
  let told = "";
  while (!signal.aborted) {
    const { notBefore, notAfter } = identity;
    const wholeMs = notAfter.getTime() - notBefore.getTime();
    const dueMs = notBefore.getTime() + RENEW_AT * wholeMs - Date.now();
    let waitMs = dueMs;
    if (dueMs <= 0) {
      try {
        await renew(context, identity);
        told = "";
        context.events.add({
          kind: "certificate-renewed",
          message: `The certificate of "${context.node}" is renewed until ${identity.notAfter.toISOString()}`,
        });
        continue;
      } catch (error) {
        const failure = toFailure(error);
        const message = `The certificate of "${context.node}" ends at ${notAfter.toISOString()} and is not renewed: ${failure.message}`;
        if (failure.code !== told)
          context.events.add({ kind: "certificate-not-renewed", message, details: { failure } });
        told = failure.code;
        waitMs = RETRY_SHARE * (notAfter.getTime() - Date.now());
      }
    }
    const ms = Math.min(LONGEST_WAIT_MS, Math.max(SHORTEST_WAIT_MS, waitMs));
    await sleep(ms, undefined, { signal, ref: false }).catch(() => {});
  }
}

async function renew(context: AgentContext, identity: Identity): Promise<void> {
  const { csr, key } = await requestCertificate(context.node);
  const signed =
    context.config.authority === undefined
      ? await atAuthority(context, (peer) => peer.json<Signed>("POST", "/v1/internal/certificate", { body: { csr } }))
      : await renewFor(context, context.node, { csr });
  await installCertificate(identity.files, signed, key);
  await identity.reload();
}
