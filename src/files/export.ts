/** A copy of files for the user, in the steps that a clone gets: read while they may change, one file after the other. */
import type { FileChange } from "./change.ts";
import type { Follower } from "./noticed.ts";
import { everything } from "./noticed.ts";
import type { FilePlace } from "./own.ts";
import { Tree } from "./tree.ts";

/** Names taken in one go. */
const NAMES = 500;

/** Nobody compares afterwards: no digests are needed. */
const nobody: Follower = { follow: () => true, unfollow: () => {} };

/** All that is in the places, the first at "/" or missing. What goes away meanwhile is left out. */
export function* exportSteps(places: readonly FilePlace[]): Generator<FileChange> {
  for (const place of places) {
    for (const path of pathsTo(place.at)) yield { type: "directory", path, fresh: false };
    const tree = new Tree({ directory: place.directory, at: place.at, exactTimes: true }, nobody);
    try {
      yield* treeSteps(tree);
    } finally {
      tree.close();
    }
  }
}

function* treeSteps(tree: Tree): Generator<FileChange> {
  const steps: FileChange[] = [];
  const emit = (step: FileChange) => {
    steps.push(step);
  };
  for (let more = true; more; ) {
    more = tree.pass(everything(true), [], emit, { names: NAMES, contentLater: true });
    yield* steps.splice(0);
  }
  for (const node of tree.regularFiles(true)) {
    for (const _bytes of tree.sendWhole(node, emit)) yield* steps.splice(0);
    if (!node.complete) for (const path of node.paths) emit({ type: "remove", path: tree.outer(path) });
    yield* steps.splice(0);
  }
}

/** Every directory on the way to a place and itself, from the top; none for "/". */
function pathsTo(at: string): string[] {
  const names = at.split("/").filter(Boolean);
  return names.map((_, i) => `/${names.slice(0, i + 1).join("/")}`);
}
