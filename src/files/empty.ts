/** Emptying a directory: links are removed, not followed. */
import { closeDescriptor, tryCall } from "../kernel/calls.ts";
import { checked } from "../kernel/errors.ts";
import {
  AT_REMOVEDIR,
  ERRNO_FILES,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
  openBelow,
  rawPath,
  readEntries,
} from "../kernel/files.ts";

/** Names that go before others have their turn. */
const NAMES_AT_ONCE = 50;

/** Removes all in a directory, with pauses for other work; the descriptor is closed at the end, or when the rest is given up. */
export function* emptied(fd: number): Generator<void, void> {
  let removed = 0;
  try {
    for (const name of readEntries(fd).keys()) {
      if (++removed % NAMES_AT_ONCE === 0) yield;
      const result = tryCall("unlinkat", fd, rawPath(name), 0);
      if (result !== ERRNO_FILES.isDirectory) {
        checked(result, "unlinkat", name);
        continue;
      }
      yield* emptied(openBelow(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      checked(tryCall("unlinkat", fd, rawPath(name), AT_REMOVEDIR), "unlinkat", name);
      yield;
    }
  } finally {
    closeDescriptor(fd);
  }
}
