/** Tells when fewer standbys are in sync than the application's owner wishes, and when there are enough again: once each time. */
import type { ApplicationSpec, View } from "../cluster/spec.ts";

type Policy = Pick<ApplicationSpec, "minInSync" | "onTooFew">;
type Note = { kind: "too-few-in-sync" | "enough-in-sync"; message: string };

export class TooFewWatch {
  /** At the beginning nobody can be in sync yet. */
  #enough: boolean | undefined;

  /** `view`: the record while this node is the primary, undefined while it is not. */
  look(view: View | undefined, { minInSync, onTooFew }: Policy): Note | undefined {
    if (view === undefined) {
      this.#enough = undefined;
      return undefined;
    }
    const before = this.#enough;
    const count = view.inSync.length;
    if (before === undefined && count < minInSync) return undefined;
    this.#enough = count >= minInSync;
    if (before === undefined || this.#enough === before) return undefined;
    const message = `${count} of at least ${minInSync} standbys in sync`;
    if (this.#enough) return { kind: "enough-in-sync", message };
    const consequence =
      onTooFew === "hold" ? "output waits until there are as many again" : "output goes on all the same";
    return { kind: "too-few-in-sync", message: `${message}: ${consequence}` };
  }
}
