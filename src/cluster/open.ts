import { OperatingError } from "../kernel/failure.ts";
import { Identity } from "./identity.ts";
import { SqliteStore } from "./sqlite.ts";
import type { ClusterStore } from "./store.ts";
import { type TlsFiles, tlsOptions } from "./tls.ts";

/**
 * Opens the cluster store of a URL as it stands in the configuration: `sqlite:/absolute/path`, or
 * `etcd://host:port,host:port` with the node's certificate. An etcd is not asked yet: it may come later than its users.
 * @throws OperatingError `store-url-invalid`, `store-unreachable`, `certificate-unreadable`
 */
export async function openStore(url: string, tls?: TlsFiles | Identity): Promise<ClusterStore> {
  if (url.startsWith("sqlite:/")) {
    const store = new SqliteStore(url.slice("sqlite:".length));
    await store.open();
    return store;
  }
  const endpoints = /^etcd:\/\/([^/]+)\/?$/.exec(url)?.[1]?.split(",");
  if (endpoints?.every((endpoint) => /^(\[[0-9a-f:]+\]|[^:]+):\d+$/i.test(endpoint))) {
    // Loaded only where it is used: most instances on one machine never need it.
    const { EtcdStore } = await import("./etcd.ts");
    const renewed = tls instanceof Identity ? tls : undefined;
    const options = tls === undefined ? undefined : (renewed?.options ?? (await tlsOptions(tls as TlsFiles)));
    const store = new EtcdStore({ endpoints, tls: options });
    renewed?.onRenewed((newer) => store.renew(newer));
    return store;
  }
  throw new OperatingError("store-url-invalid", `"${url}" names no cluster store`, {
    remedy: 'Write "sqlite:/absolute/path" or "etcd://host:port,host:port".',
  });
}
