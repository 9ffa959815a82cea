/** All kinds of objects in the IPC namespace: a new one is a folder beside this file and a line here. */
import { msgqueue } from "./msgqueue/index.ts";
import type { NamespaceKind } from "./namespace-kind.ts";
import { semaphore } from "./semaphore/index.ts";
import { shm } from "./shm/index.ts";

export const NAMESPACE_KINDS: readonly NamespaceKind[] = [shm, semaphore, msgqueue] as NamespaceKind[];

export function namespaceKindNamed(name: string): NamespaceKind | undefined {
  return NAMESPACE_KINDS.find(({ kind }) => kind === name);
}
