import { OperatingError } from "../kernel/failure.ts";
import { SqliteStore } from "./sqlite.ts";
import type { ClusterStore } from "./store.ts";

/**
 * Opens the cluster store of a URL as it stands in the configuration: `sqlite:/absolute/path`.
 * @throws OperatingError `store-url-invalid`, `store-unreachable`
 */
export async function openStore(url: string): Promise<ClusterStore> {
  if (url.startsWith("sqlite:/")) {
    const store = new SqliteStore(url.slice("sqlite:".length));
    await store.open();
    return store;
  }
  throw new OperatingError("store-url-invalid", `"${url}" names no cluster store`, {
    remedy: 'Write "sqlite:/absolute/path".',
  });
}
