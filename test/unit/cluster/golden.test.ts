/**
 * The conversations in test/golden/view-*.txt: a line that is said, `----`, what comes back. After a wanted change of
 * behaviour write them anew with `UNDERSTUDY_REWRITE=1 node --test test/unit/cluster/golden.test.ts` and read the difference.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { Conversation } from "./conversation.ts";

const directory = new URL("../../golden/", import.meta.url);

for (const file of readdirSync(directory).filter((name) => /^view-.*\.txt$/.test(name))) {
  test(`conversation ${file}`, () => {
    const path = new URL(file, directory);
    const expected = readFileSync(path, "utf8");
    const actual = play(expected);
    if (process.env.UNDERSTUDY_REWRITE === "1") writeFileSync(path, actual);
    else assert.equal(actual, expected);
  });
}

/** The same text, with what comes back now. */
function play(text: string): string {
  const conversation = new Conversation();
  const blocks = text.trimEnd().split(/\n\n+/);
  const played = blocks.map((block) => {
    const said = block.split("\n----")[0]!;
    const line = said.split("\n").find((candidate) => !candidate.startsWith("#"));
    return line === undefined ? said : `${said}\n----\n${conversation.say(line)}`;
  });
  return `${played.join("\n\n")}\n`;
}
