/** The two ends of a connection between nodes. Apart from pki.ts so that an instance does not load the authority's code. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { SecureVersion, TLSSocket } from "node:tls";
import { OperatingError } from "../kernel/failure.ts";

/** Paths as they stand in the agent's and the instance's configuration. */
export interface TlsFiles {
  ca: string;
  certificate: string;
  key: string;
}

/** The faster one first: a checkpoint stream is many megabytes a second. */
const CIPHERS = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

/** What node:tls and node:https take, on both sides of a connection. */
export interface MutualTlsOptions {
  ca: Buffer;
  cert: Buffer;
  key: Buffer;
  requestCert: true;
  rejectUnauthorized: true;
  minVersion: SecureVersion;
  ciphers: string;
}

/**
 * Options for `tls.connect`, `tls.createServer`, `https.request` and `https.createServer`: both ends must show a
 * certificate of the cluster's authority, TLS 1.3 only.
 * @throws OperatingError `certificate-unreadable`
 */
export async function tlsOptions(files: TlsFiles): Promise<MutualTlsOptions> {
  try {
    return await readPair(files);
  } catch (cause) {
    throw new OperatingError("certificate-unreadable", `Cannot read this node's certificate "${files.certificate}"`, {
      remedy:
        "Issue the node a certificate (understudy init or join), and check the paths in the agent's configuration.",
      cause,
    });
  }
}

/** Where a renewed key is before the certificate that fits it (`installCertificate` in pki.ts). */
export const nextKey = (files: TlsFiles) => `${files.key}.next`;

/** Certificate and key are two files that change one after the other: reads until they fit. */
async function readPair(files: TlsFiles): Promise<MutualTlsOptions> {
  for (let attempt = 1; ; attempt++) {
    const cert = await readFile(files.certificate);
    const own = new X509Certificate(cert);
    const fits = (key: Buffer) => own.checkPrivateKey(createPrivateKey(key));
    const keys = [await readFile(files.key), await readFile(nextKey(files)).catch(() => undefined)];
    const key = keys.find((one) => one !== undefined && fits(one));
    const ca = await readFile(files.ca);
    if (key !== undefined) {
      return { ca, cert, key, requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.3", ciphers: CIPHERS };
    }
    if (attempt === READ_ATTEMPTS) throw new Error(`"${files.key}" is not the key of "${files.certificate}"`);
    await sleep(READ_AGAIN_MS);
  }
}

const READ_ATTEMPTS = 20;
const READ_AGAIN_MS = 10;

/** Common name of the authenticated peer, or undefined when the connection is not authenticated. */
export function peerName(socket: TLSSocket): string | undefined {
  if (!socket.authorized) return undefined;
  const commonName = socket.getPeerCertificate().subject?.CN;
  // A certificate with several common names is none of ours.
  return typeof commonName === "string" ? commonName : undefined;
}
