/** docs/errors.md tells what the sources say. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import { errorsPage } from "../../scripts/errors.ts";

test("docs/errors.md is current (node scripts/errors.ts mends it)", () => {
  assert.equal(readFileSync(resolve(import.meta.dirname, "../../docs/errors.md"), "utf8"), errorsPage());
});
