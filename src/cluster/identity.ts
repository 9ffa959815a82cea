/**
 * A node's certificate as it is now. It is renewed while agents and instances run: what they have open goes on with the old one,
 * what they open from then on shows the new one.
 */
import { X509Certificate } from "node:crypto";
import { type FSWatcher, watch } from "node:fs";
import { dirname } from "node:path";
import { type MutualTlsOptions, type TlsFiles, tlsOptions } from "./tls.ts";

/** The files change one after the other: look once for all of them. */
const GATHER_MS = 20;

export class Identity {
  readonly files: TlsFiles;
  #options: MutualTlsOptions;
  readonly #listeners = new Set<(options: MutualTlsOptions) => void>();
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;

  private constructor(files: TlsFiles, options: MutualTlsOptions) {
    this.files = files;
    this.#options = options;
  }

  /** Reads the files and follows their changes. @throws OperatingError `certificate-unreadable` */
  static async open(files: TlsFiles): Promise<Identity> {
    const identity = new Identity(files, await tlsOptions(files));
    identity.#watcher = watch(dirname(files.certificate), { persistent: false }, () => identity.#soon());
    // Without a watch (a directory that is removed) the certificate stays the one that was read.
    identity.#watcher.on("error", () => {});
    // What changed between the reading and the watch.
    identity.#soon();
    return identity;
  }

  get options(): MutualTlsOptions {
    return this.#options;
  }

  get notBefore(): Date {
    return new Date(new X509Certificate(this.#options.cert).validFrom);
  }

  get notAfter(): Date {
    return new Date(new X509Certificate(this.#options.cert).validTo);
  }

  /** Calls back with every certificate that takes the place of another. */
  onRenewed(listener: (options: MutualTlsOptions) => void): void {
    this.#listeners.add(listener);
  }

  /** Reads the files again. @throws OperatingError `certificate-unreadable` */
  async reload(): Promise<void> {
    const options = await tlsOptions(this.files);
    if (options.cert.equals(this.#options.cert)) return;
    this.#options = options;
    for (const listener of this.#listeners) listener(options);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#watcher?.close();
    this.#listeners.clear();
  }

  #soon(): void {
    clearTimeout(this.#timer);
    // Files that do not fit yet are looked at again when the next of them changes.
    this.#timer = setTimeout(() => void this.reload().catch(() => {}), GATHER_MS).unref();
  }
}
