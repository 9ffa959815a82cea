/**
 * The cluster's own certificate authority. Every connection between nodes is mutually authenticated: both ends show a
 * certificate of this authority, whose common name is the node's name. Keys are EC P-256; all files are PEM.
 */
import { randomBytes, type webcrypto } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
// The certificate library stops at load without it; so it stands before.
import "reflect-metadata";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { OperatingError } from "../kernel/failure.ts";
import type { TlsFiles } from "./tls.ts";

export { type MutualTlsOptions, peerName, type TlsFiles, tlsOptions } from "./tls.ts";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const authorityYears = 10;
const nodeDays = 365;
/** A node whose clock is a little behind must not refuse a certificate made this minute. */
const backdateMs = 60 * 60 * 1000;
const dayMs = 24 * 60 * 60 * 1000;

export interface IssueRequest {
  /** Common name: the node's (or the operator's) name. Letters, digits, `.`, `_`, `-`. */
  name: string;
  /** IP addresses and host names under which the holder is reached; the name itself is always added. */
  hosts: string[];
  /** Gets `ca.crt`, `node.crt` and `node.key` (mode 0600); made if it does not exist. */
  outDirectory: string;
  /** Days the certificate is valid; default 365. */
  days?: number;
}

/**
 * Makes an authority (`ca.crt`, `ca.key`) in `directory`. One that is there already is kept, so that this may be called
 * at every start.
 */
export async function createAuthority(directory: string): Promise<void> {
  if (existsSync(join(directory, "ca.crt")) && existsSync(join(directory, "ca.key"))) return;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const now = Date.now();
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ CN: ["understudy cluster"] }],
    notBefore: new Date(now - backdateMs),
    notAfter: new Date(now + authorityYears * 365 * dayMs),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  await writeSecret(join(directory, "ca.key"), await exportKey(keys.privateKey));
  await writeAtomically(join(directory, "ca.crt"), `${certificate.toString("pem")}\n`, 0o644);
}

/**
 * Issues a certificate of the authority for a node, with a key made here.
 * @throws OperatingError `authority-missing` when the authority's files cannot be read, `name-invalid`.
 */
export async function issueCertificate(authorityDirectory: string, request: IssueRequest): Promise<TlsFiles> {
  const { name, hosts, outDirectory, days = nodeDays } = request;
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name)) {
    throw new OperatingError("name-invalid", `The node name "${name}" cannot stand in a certificate`, {
      remedy: "Use letters, digits, dots, underscores and hyphens, at most 63.",
    });
  }
  const authority = await loadAuthority(authorityDirectory);
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const now = Date.now();
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [{ CN: [name] }],
    issuer: authority.certificate.subject,
    notBefore: new Date(now - backdateMs),
    notAfter: new Date(Math.min(now + days * dayMs, authority.certificate.notAfter.getTime())),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey: authority.key,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      // A node is a server to its peers and a client of them, with one certificate.
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
      new SubjectAlternativeNameExtension(
        [...new Set([name, ...hosts])].map((host) => ({ type: isIP(host) ? "ip" : "dns", value: host }) as const),
      ),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
      await AuthorityKeyIdentifierExtension.create(authority.certificate.publicKey),
    ],
  });
  await mkdir(outDirectory, { recursive: true });
  const files = {
    ca: join(outDirectory, "ca.crt"),
    certificate: join(outDirectory, "node.crt"),
    key: join(outDirectory, "node.key"),
  };
  await writeSecret(files.key, await exportKey(keys.privateKey));
  await writeAtomically(files.certificate, `${certificate.toString("pem")}\n`, 0o644);
  await writeAtomically(files.ca, `${authority.certificate.toString("pem")}\n`, 0o644);
  return files;
}

async function loadAuthority(directory: string): Promise<{ certificate: X509Certificate; key: webcrypto.CryptoKey }> {
  try {
    const certificate = new X509Certificate(await readFile(join(directory, "ca.crt"), "utf8"));
    const pem = await readFile(join(directory, "ca.key"), "utf8");
    const [der] = PemConverter.decode(pem);
    if (der === undefined) throw new Error(`No key in "${join(directory, "ca.key")}"`);
    const key = await crypto.subtle.importKey("pkcs8", der, algorithm, false, ["sign"]);
    return { certificate, key };
  } catch (cause) {
    throw new OperatingError("authority-missing", `Cannot read the cluster's authority in "${directory}"`, {
      remedy: "Run this where the authority was made (understudy init), as root.",
      cause,
    });
  }
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  return `${PemConverter.encode(await crypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY")}\n`;
}

/** Positive and without a leading zero byte, as X.690 wants an integer. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return bytes.toString("hex");
}

function writeSecret(path: string, text: string): Promise<void> {
  return writeAtomically(path, text, 0o600);
}

/** A reader never sees half a file: an agent may be reading its certificate while it is renewed. */
async function writeAtomically(path: string, text: string, mode: number): Promise<void> {
  const temporary = `${path}.${process.pid}`;
  await writeFile(temporary, text, { mode });
  await chmod(temporary, mode);
  await rename(temporary, path);
}
