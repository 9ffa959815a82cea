/**
 * The cluster's own certificate authority. Every connection between nodes is mutually authenticated: both ends show a
 * certificate of this authority, whose common name is the node's name. Keys are EC P-256; all files are PEM.
 */
import { createHash, X509Certificate as NodeCertificate, randomBytes, type webcrypto } from "node:crypto";
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
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  type PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { OperatingError } from "../kernel/failure.ts";
import { nextKey, type TlsFiles } from "./tls.ts";

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
  checkNodeName(name);
  const { csr, key } = await requestCertificate(name);
  const signed = await signCertificate(authorityDirectory, { csr, name, hosts, lifetimeMs: days * dayMs });
  await mkdir(outDirectory, { recursive: true });
  const files = {
    ca: join(outDirectory, "ca.crt"),
    certificate: join(outDirectory, "node.crt"),
    key: join(outDirectory, "node.key"),
  };
  await installCertificate(files, signed, key);
  return files;
}

/** What a node sends to whoever signs: nothing of its key but that it has it. */
export async function requestCertificate(name: string): Promise<{ csr: string; key: string }> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [name] }],
    keys,
    signingAlgorithm: algorithm,
  });
  return { csr: request.toString("pem"), key: await exportKey(keys.privateKey) };
}

export interface SignRequest {
  /** PKCS #10, PEM. Of what it says, only the public key counts. */
  csr: string;
  name: string;
  hosts: string[];
  lifetimeMs: number;
}

export interface Signed {
  /** PEM */
  certificate: string;
  ca: string;
}

/** @throws OperatingError `authority-missing`, `name-invalid`, `csr-invalid` (the asker does not have the key) */
export async function signCertificate(authorityDirectory: string, request: SignRequest): Promise<Signed> {
  const { name, hosts, lifetimeMs } = request;
  checkNodeName(name);
  const publicKey = await checkRequest(request.csr);
  const authority = await loadAuthority(authorityDirectory);
  const now = Date.now();
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [{ CN: [name] }],
    issuer: authority.certificate.subject,
    notBefore: new Date(now - Math.min(backdateMs, lifetimeMs / 10)),
    notAfter: new Date(Math.min(now + lifetimeMs, authority.certificate.notAfter.getTime())),
    signingAlgorithm: algorithm,
    publicKey,
    signingKey: authority.key,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      // A node is a server to its peers and a client of them, with one certificate.
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
      new SubjectAlternativeNameExtension(
        [...new Set([name, ...hosts])].map((host) => ({ type: isIP(host) ? "ip" : "dns", value: host }) as const),
      ),
      await SubjectKeyIdentifierExtension.create(publicKey),
      await AuthorityKeyIdentifierExtension.create(authority.certificate.publicKey),
    ],
  });
  return { certificate: `${certificate.toString("pem")}\n`, ca: `${authority.certificate.toString("pem")}\n` };
}

/**
 * Puts a new certificate and its key in the place of the old ones. Whoever reads in between, also after a crash here, finds a
 * pair that fits: the new key is there under another name before the certificate, see `readPair` in tls.ts.
 */
export async function installCertificate(files: TlsFiles, { certificate, ca }: Signed, key: string): Promise<void> {
  await writeAtomically(files.ca, ca, 0o644);
  await writeSecret(nextKey(files), key);
  await writeAtomically(files.certificate, certificate, 0o644);
  await rename(nextKey(files), files.key);
}

/** SHA-256 of the certificate's DER, base64url: how a join token names the authority. */
export function fingerprintOf(pem: string): string {
  return createHash("sha256").update(new NodeCertificate(pem).raw).digest("base64url");
}

async function checkRequest(csr: string): Promise<PublicKey> {
  try {
    const request = new Pkcs10CertificateRequest(csr);
    if (await request.verify()) return request.publicKey;
  } catch (cause) {
    throw new OperatingError("csr-invalid", "The request for a certificate cannot be read", { cause });
  }
  throw new OperatingError("csr-invalid", "The request for a certificate is not signed with its own key");
}

function checkNodeName(name: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name)) return;
  throw new OperatingError("name-invalid", `The node name "${name}" cannot stand in a certificate`, {
    remedy: "Use letters, digits, dots, underscores and hyphens, at most 63.",
  });
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
