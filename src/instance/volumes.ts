/** Volumes of an application on this node: where each of them is, and what a new clone begins with. */
import { chmodSync, chownSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Volume } from "../cluster/application.ts";
import { emptied } from "../files/empty.ts";
import { openPath } from "../kernel/calls.ts";
import { checked } from "../kernel/errors.ts";
import { OperatingError } from "../kernel/failure.ts";
import { getExtended, O_DIRECTORY, O_NOFOLLOW, O_RDONLY, setExtended } from "../kernel/files.ts";
import type { Mount } from "../stage/root.ts";

/** Says on a volume's directory, and as a part of its attributes on every copy, whose it is. */
const OWNER = "trusted.understudy.volume";

/** Directories that are replicated. */
export function replicatedVolumes(volumes: readonly Volume[]): Mount[] {
  return volumes.flatMap(({ path, directory }) => (directory === undefined ? [] : [{ path, directory }]));
}

export function scratchPaths(volumes: readonly Volume[]): string[] {
  return volumes.flatMap(({ path, scratch }) => (scratch ? [path] : []));
}

interface Place {
  application: string;
  volumes: readonly Volume[];
  filesDirectory: string;
}

/** For the application's start: what is in its directories is its own from now on. */
export function startVolumes(place: Place): Mount[] {
  const replicated = replicatedVolumes(place.volumes);
  for (const { directory } of replicated) {
    mkdirSync(directory, { recursive: true });
    checked(setExtended(directory, OWNER, Buffer.from(place.application)), "setxattr", directory);
  }
  return [...replicated, ...scratchMounts(place)];
}

/**
 * For a clone that begins with nothing: directories are emptied.
 * @throws OperatingError `volume-not-empty` for one that holds what is not this application's
 */
export function emptyVolumes(place: Place): Mount[] {
  const replicated = replicatedVolumes(place.volumes);
  for (const { directory } of replicated) {
    mkdirSync(directory, { recursive: true });
    const own = getExtended(directory, OWNER)?.toString() === place.application;
    if (!own && readdirSync(directory).length > 0) throw notEmpty(directory, place.application);
    for (const _pause of emptied(openPath(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)));
    checked(setExtended(directory, OWNER, Buffer.from(place.application)), "setxattr", directory);
  }
  return [...replicated, ...scratchMounts(place)];
}

function scratchMounts({ volumes, filesDirectory }: Place): Mount[] {
  return scratchPaths(volumes).map((path, i) => {
    const directory = join(filesDirectory, `scratch-${i}`);
    mkdirSync(directory, { recursive: true });
    // As the node's own directory of that name, such as /tmp, is.
    const { mode, uid, gid } = statSync(path, { throwIfNoEntry: false }) ?? { mode: 0o755, uid: 0, gid: 0 };
    chownSync(directory, uid, gid);
    chmodSync(directory, mode & 0o7777);
    return { path, directory };
  });
}

function notEmpty(directory: string, application: string): OperatingError {
  return new OperatingError(
    "volume-not-empty",
    `The directory "${directory}" holds files that are not of "${application}"`,
    {
      remedy: "Empty it on that node, or choose another directory for the volume: a clone begins with an empty one.",
      details: { directory, application },
    },
  );
}
