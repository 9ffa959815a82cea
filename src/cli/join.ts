/** `understudy join`: brings this machine into a cluster, by a token of `understudy token`. */
import { mkdir } from "node:fs/promises";
import https from "node:https";
import { type AddressInfo, isIP } from "node:net";
import type { Command } from "commander";
import type { JoinAnswer } from "../agent/api-types.ts";
import { AgentClient } from "../agent/client.ts";
import { OperatingError } from "../kernel/failure.ts";
import { checkNew, filesOf, type NodeOptions, nodeOptions, tell, writeConfiguration } from "./node-files.ts";

const TIMEOUT_MS = 15_000;

export function registerJoin(program: Command): void {
  const command = program.command("join <token> <host:port>").description("bring this machine into a cluster");
  nodeOptions(command).action(joinCluster);
}

async function joinCluster(token: string, address: string, options: NodeOptions): Promise<void> {
  const { name, directory } = options;
  const [, id, secret, fingerprint] = /^uj1\.([^.]+)\.([^.]+)\.([^.]+)$/.exec(token) ?? [];
  if (id === undefined || secret === undefined || fingerprint === undefined) {
    throw new OperatingError("usage", "That is no join token", { remedy: "Make one on a node: understudy token" });
  }
  checkNew(directory);
  const { fingerprintOf, installCertificate, requestCertificate } = await import("../cluster/pki.ts");
  const url = `https://${address}`;
  const { ca, ownAddress } = await authorityAt(url);
  if (fingerprintOf(ca) !== fingerprint) {
    throw new OperatingError("foreign-authority", `Who answers at ${address} is of another cluster than the token`, {
      remedy: "Check the address. If it is right, somebody may be in between: nothing has been told to it.",
    });
  }
  const host = options.listen ?? ownAddress;
  const { csr, key } = await requestCertificate(name);
  const client = AgentClient.tls(url, { ca: Buffer.from(ca), minVersion: "TLSv1.3" });
  try {
    const body = { token: `${id}.${secret}`, name, host, csr };
    const answer = await client.json<JoinAnswer>("POST", "/v1/join", { body, timeoutMs: TIMEOUT_MS });
    await mkdir(filesOf(directory).tlsDirectory, { recursive: true, mode: 0o700 });
    await installCertificate(filesOf(directory).tls, answer, key);
    await writeConfiguration(options, host, { store: answer.store });
  } finally {
    client.close();
  }
  tell(options, `"${name}" is a node of the cluster now.`, "See: understudy nodes");
}

/** Asked of somebody who is not known yet: what comes is worth nothing before it is compared with the token. */
function authorityAt(url: string): Promise<{ ca: string; ownAddress: string }> {
  return new Promise((resolve, reject) => {
    const options = { rejectUnauthorized: false, minVersion: "TLSv1.3", timeout: TIMEOUT_MS, agent: false } as const;
    const fail = (cause: Error) =>
      reject(
        new OperatingError("node-unreachable", `The agent at "${url}" does not answer: ${cause.message}`, {
          remedy: "Check the address, and that an agent runs there.",
          cause,
        }),
      );
    const request = https.get(new URL("/v1/authority", url), options, async (response) => {
      try {
        const own = (response.socket.address() as AddressInfo).address.replace(/^::ffff:/, "");
        let text = "";
        for await (const chunk of response) text += chunk;
        const { ca } = JSON.parse(text) as { ca?: unknown };
        if (typeof ca !== "string" || isIP(own) === 0) throw new Error("its answer is none of an agent's");
        resolve({ ca, ownAddress: own });
      } catch (error) {
        fail(error as Error);
      }
    });
    request.once("timeout", () => request.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)));
    request.once("error", fail);
  });
}
