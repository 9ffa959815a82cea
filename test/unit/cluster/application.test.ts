/** The application's schema, its reference docs/app.yaml, and what is said about mistakes. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { parse } from "yaml";
import { type ApplicationKey, applicationSchema, keyChanges } from "../../../src/cluster/application.ts";
import { applicationDefaults } from "../../../src/cluster/spec.ts";
import { parseYaml } from "../../../src/cluster/yaml.ts";

const reference = readFileSync(new URL("../../../docs/app.yaml", import.meta.url), "utf8");
const keys = Object.keys(applicationSchema.shape) as ApplicationKey[];

function parsed(text: string) {
  const result = parseYaml(text, "app.yaml", applicationSchema);
  assert.ok("documents" in result, "mistakes" in result ? result.mistakes.join("\n") : "");
  return result.documents;
}

function mistakes(text: string): string[] {
  const result = parseYaml(text, "app.yaml", applicationSchema);
  assert.ok("mistakes" in result, "The text has no mistake");
  return result.mistakes;
}

/** The paragraph of comment right above each key, and the keys that are commented out. */
function paragraphs(): Map<string, { comment: string; optional: boolean }> {
  const found = new Map<string, { comment: string; optional: boolean }>();
  for (const [, comment, optional, key] of reference.matchAll(/((?:^# .*\n)+)^(#?)(\w+):/gm))
    found.set(key!, { comment: comment!.replaceAll("\n# ", " "), optional: optional === "#" });
  return found;
}

describe("docs/app.yaml", () => {
  const [least] = parsed(reference);
  const [all] = parsed(reference.replace(/^#(?=\S)/gm, ""));

  it("names every key of the schema and no other, and parses with and without those that are optional", () => {
    assert.deepEqual(Object.keys(all!).sort(), [...keys].sort());
    assert.deepEqual([...paragraphs().keys()].sort(), [...keys].sort());
  });

  it("names every key inside of keys", () => {
    const written = parse(reference.replace(/^#(?=\S)/gm, "")) as Record<string, object>;
    for (const [key, value] of Object.entries(applicationDefaults)) {
      const inside = typeof value === "object" && !Array.isArray(value) ? Object.keys(value) : [];
      assert.deepEqual(Object.keys(inside.length > 0 ? written[key]! : {}).sort(), inside.sort(), key);
    }
  });

  it("shows true defaults", () => {
    for (const [key, { comment, optional }] of paragraphs()) {
      if (!optional || comment.includes("No default")) {
        assert.equal(key in least!, !optional, `"${key}" says "No default", or is needed`);
        continue;
      }
      const name = key as ApplicationKey;
      assert.deepEqual(all![name], least![name], `The default of "${key}"`);
    }
  });

  it("says what changing each key takes", () => {
    for (const [key, { comment }] of paragraphs())
      assert.ok(
        comment.includes(`[${keyChanges[key as ApplicationKey]}]`),
        `"${key}" is ${keyChanges[key as ApplicationKey]}`,
      );
  });
});

describe("mistakes in a file", () => {
  const good = "name: app\ncommand: [sleep, '1']\naddress: 10.0.0.1/24\n";

  it("are told with line, key and what is allowed, all of them", () => {
    assert.deepEqual(mistakes(`${good}keep: 0\nstandbys: [b]\nperiod: fast\n`), [
      'app.yaml:4: "keep": 0 is not allowed; allowed: a whole number from 1 to 1000',
      `app.yaml:5: "standbys": there is no such key (did you mean "standby"?); allowed: ${keys.join(", ")}`,
      'app.yaml:6: "period": "fast" is not allowed; allowed: auto, or milliseconds from 1 to 60000',
    ]);
  });

  it("are told of what is missing, of parts of lists, and of the right document", () => {
    assert.deepEqual(mistakes(`${good}---\nname: other\ncommand: [5]\n`), [
      'app.yaml:5: "address": is missing; allowed: an IPv4 address with prefix length, such as 10.77.0.10/24',
      'app.yaml:6: "command.0": 5 is not allowed; allowed: a list of texts: a program, then its arguments',
    ]);
  });

  it("are told of what is no YAML", () => {
    assert.match(mistakes("name: [")[0]!, /^app\.yaml:1: /);
    assert.match(mistakes(`${good}name: again\n`)[0]!, /^app\.yaml:4: .*unique/);
  });

  it("every key says what is allowed", () => {
    for (const key of keys) assert.ok(applicationSchema.shape[key].description, `"${key}" has no description`);
  });

  it("documents without content are none", () => {
    assert.equal(parsed(`---\n${good}---\n`).length, 1);
    assert.equal(parsed("").length, 0);
  });
});
