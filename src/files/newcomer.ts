/** What a clone gets that has nothing, beside the passes that others get. */
import { closeDescriptor } from "../kernel/calls.ts";
import type { FileChange } from "./change.ts";
import type { EmitChange } from "./content.ts";
import type { KnownTree } from "./known.ts";
import type { Node } from "./node.ts";
import { creation, sendAttributes } from "./tell.ts";

/** All that there is but the files' bytes, as steps. */
export function* structure(known: KnownTree): Generator<FileChange> {
  const told = new Map<Node, string>();
  for (const path of [...known.paths.keys()].sort()) {
    const node = known.paths.get(path)!;
    const outer = known.outer(path);
    const other = told.get(node);
    if (node.kind === "directory") {
      if (path !== "") yield { type: "directory", path: outer, fresh: node.fresh };
    } else if (node.kind === "whiteout") yield { type: "remove", path: outer };
    else if (other !== undefined) yield { type: "link", from: other, to: outer };
    else {
      yield creation(node, outer);
      if (node.content) yield { type: "size", path: outer, size: node.content.size };
    }
    told.set(node, outer);
  }
  for (const [node, outer] of told) {
    if (node.kind === "whiteout" || node.path === undefined) continue;
    const attributes = known.withHandle(node, node.path, (handle) => node.attributes(handle));
    if (attributes) yield { type: "attributes", path: outer, attributes };
  }
}

/** All of a file, piece by piece, beside passes; yields bytes. The pass that finds it gone tells that, too. */
export function* sendWhole(known: KnownTree, node: Node, emit: EmitChange): Generator<number> {
  const fd = known.openFile(node);
  if (fd < 0) return;
  const path = () => (node.path === undefined ? undefined : known.outer(node.path));
  try {
    const first = path();
    if (!node.complete && first !== undefined) node.content!.begin(first, node.size, emit, !node.followed);
    yield* node.content!.all(fd, path, emit);
  } finally {
    closeDescriptor(fd);
  }
  node.complete = true;
  if (node.size > 0) sendAttributes(known, node, true, emit);
}
