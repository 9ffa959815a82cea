/** Who may ask what. Pure. */

/** Each may what those before may. */
export const roles = ["viewer", "operator", "admin"] as const;
export type Role = (typeof roles)[number];

/**
 * What a request needs. `anyone`: a node that has no certificate yet. `node`: agents among each other (and this machine's root).
 * An operator moves, checkpoints and ends what there is; who decides what programs run on the nodes, as root, is their admin.
 */
export function roleNeeded(method: string, path: string): Role | "anyone" | "node" {
  if (path === "/v1/join" || path === "/v1/authority") return "anyone";
  if (path.startsWith("/v1/internal/")) return "node";
  if (/^\/v1\/(users|tokens|audit)(\/|$)/.test(path)) return "admin";
  // An application's own data is more than how it is.
  if (/^\/v1\/applications\/[^/]+\/files(\/|$)/.test(path)) return method === "GET" ? "operator" : "admin";
  if (method === "GET" || /^\/v1\/applications\/[^/]+\/diff$/.test(path)) return "viewer";
  const starts = (method === "POST" && path === "/v1/applications") || method === "PUT";
  return starts ? "admin" : "operator";
}

export function allows(has: Role, needed: Role): boolean {
  return roles.indexOf(has) >= roles.indexOf(needed);
}
