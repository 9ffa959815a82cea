/**
 * What is kept of each kind of resource and what is not, as the sources that keep it say in their comments:
 *
 *   @kind NAME     whose tags follow; without it the folder's name (src/resources/NAME)
 *   @kept TEXT     what a clone has as the primary had it
 *   @unkept TEXT   what it has not, and why; may stand several times
 *
 * A text goes on over lines until the next tag or the comment's end.
 */
import { globSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");

export interface Kind {
  name: string;
  kept: string[];
  unkept: string[];
}

/** Folders of src/resources and of test/programs: what has code, or behaviour that is tested, has a section. */
export function kindNames(): string[] {
  const folders = ["src/resources", "test/programs"].flatMap((folder) =>
    readdirSync(resolve(root, folder), { withFileTypes: true }).filter((entry) => entry.isDirectory()),
  );
  return [...new Set(folders.map(({ name }) => name))].sort();
}

/** Every kind of `kindNames`; one that no source tells of has nothing in its lists. */
export function readKinds(): Kind[] {
  const kinds = new Map(kindNames().map((name): [string, Kind] => [name, { name, kept: [], unkept: [] }]));
  for (const file of globSync("src/resources/*/*.ts", { cwd: root }).sort())
    for (const [name, tag, text] of tagsOf(readFileSync(resolve(root, file), "utf8"), basename(dirname(file))))
      kinds.get(name)?.[tag].push(text);
  return [...kinds.values()];
}

function* tagsOf(source: string, folder: string): Generator<[string, "kept" | "unkept", string]> {
  for (const [comment] of source.matchAll(/\/\*\*[\s\S]*?\*\//g)) {
    let kind = folder;
    const text = comment.replace(/^\/\*\*|\*\/$/g, "").replace(/^\s*\* ?/gm, "");
    for (const [, tag, body] of text.matchAll(/^\s*@(\w+) ([\s\S]*?)(?=^\s*@|$(?![\s\S]))/gm)) {
      const words = body!.trim().replace(/\s+/g, " ");
      if (tag === "kind") kind = words;
      else if (tag === "kept" || tag === "unkept") yield [kind, tag, words];
    }
  }
}
