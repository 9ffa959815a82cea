/** A unit test of the repository itself: layers, cycles, leftovers, links, the symmetry of kinds. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, lstatSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, extname, join, normalize, relative, resolve } from "node:path";
import { test } from "node:test";

const root = resolve(import.meta.dirname, "..");

/** Lower first; a room imports only rooms of lower lines, or of its own line where `peers` says so. */
const LAYERS: string[][] = [
  ["kernel"],
  ["resources"],
  ["stage"],
  ["tree"],
  ["checkpoint"],
  ["files", "network", "replication"],
  ["clone"],
  ["cluster"],
  ["sim", "instance"],
  ["supervision"],
  ["agent"],
  ["cli", "lab", "console"],
];
/** The lab's commands are commands of the command line; the lab itself does not know them. */
const PEERS = new Set(["cli→lab"]);

const layerOf = (room: string) => LAYERS.findIndex((rooms) => rooms.includes(room));

/** Files that git tracks or would track, so that build output is not judged. */
const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8",
})
  .split("\n")
  .filter((file) => file !== "" && lstatSync(join(root, file), { throwIfNoEntry: false })?.isFile());
const read = (file: string) => readFileSync(join(root, file), "utf8");
const sources = files.filter((file) => /^(src|workload|demo|bench|test|scripts)\/.*\.ts$/.test(file));

interface Import {
  from: string;
  to: string;
  typeOnly: boolean;
}

const IMPORT = /^(?:import|export)\s+(type\s)?(?:[^"';]*?\sfrom\s+)?"(\.[^"]+)"/gm;
const DYNAMIC_IMPORT = /\bimport\("(\.[^"]+)"\)/g;

function importsOf(file: string): Import[] {
  const text = read(file);
  const target = (specifier: string) => normalize(join(dirname(file), specifier));
  return [
    ...[...text.matchAll(IMPORT)].map((m) => ({ from: file, to: target(m[2]!), typeOnly: m[1] !== undefined })),
    ...[...text.matchAll(DYNAMIC_IMPORT)].map((m) => ({ from: file, to: target(m[1]!), typeOnly: false })),
  ];
}

const imports = sources.flatMap(importsOf);
const roomOf = (file: string) => /^src\/([^/]+)\//.exec(file)?.[1];

// `import type` of a contract disappears at run time: it makes no dependency between running parts.
test("a lower layer never imports a higher one", () => {
  const wrong = imports.filter(({ from, to, typeOnly }) => {
    const [a, b] = [roomOf(from), roomOf(to)];
    if (a === undefined || b === undefined || a === b || typeOnly) return false;
    assert.notEqual(layerOf(a), -1, `src/${a} has no place in the list of layers`);
    return layerOf(b) > layerOf(a) || (layerOf(b) === layerOf(a) && !PEERS.has(`${a}→${b}`));
  });
  assert.deepEqual(
    wrong.map(({ from, to }) => `${from} imports ${to}`),
    [],
  );
});

/** What stands beside src, and what of ours each may use. */
const BESIDE: Record<string, string[]> = {
  src: [],
  workload: ["src"],
  demo: ["src", "workload"],
  bench: ["src", "workload"],
  scripts: ["src"],
  test: ["src", "workload", "demo", "bench", "scripts"],
};

test("src imports nothing of test, workload, demo, bench and scripts; these only what they stand on", () => {
  const wrong = imports.filter(({ from, to }) => {
    const [a, b] = [from.split("/")[0]!, to.split("/")[0]!];
    return a !== b && !BESIDE[a]!.includes(b);
  });
  assert.deepEqual(
    wrong.map(({ from, to }) => `${from} imports ${to}`),
    [],
  );
});

test("only src/kernel/ imports the native addon's face", () => {
  const direct = imports.filter(({ from, to }) => to === "src/kernel/addon.ts" && roomOf(from) !== "kernel");
  assert.deepEqual(
    direct.map(({ from }) => from),
    [],
  );
});

test("only src/kernel/addon.ts loads the native addon", () => {
  const direct = sources.filter(
    (file) => file !== "src/kernel/addon.ts" && file !== "test/tidy.test.ts" && read(file).includes("understudy.node"),
  );
  assert.deepEqual(direct, []);
});

test("only src/cluster/etcd.ts knows etcd's addresses", () => {
  const names = sources.filter(
    (file) => file.startsWith("src/") && /\/v3(alpha|beta)?\/(kv|lease|watch|auth|cluster)/.test(read(file)),
  );
  assert.deepEqual(
    names.filter((file) => file !== "src/cluster/etcd.ts"),
    [],
  );
});

test("imports make no cycles", () => {
  const graph = new Map<string, string[]>();
  for (const { from, to, typeOnly } of imports) if (!typeOnly) graph.set(from, [...(graph.get(from) ?? []), to]);
  const done = new Set<string>();
  const visit = (file: string, path: string[]): void => {
    assert.ok(!path.includes(file), `Cycle: ${[...path.slice(path.indexOf(file)), file].join(" → ")}`);
    if (done.has(file)) return;
    for (const next of graph.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
});

test("every import of a file of ours resolves", () => {
  const wrong = imports.filter(({ to }) => !existsSync(join(root, to)));
  assert.deepEqual(
    wrong.map(({ from, to }) => `${from} imports ${to}`),
    [],
  );
});

const TEXT = new Set([
  "",
  ".ts",
  ".mjs",
  ".js",
  ".c",
  ".cc",
  ".h",
  ".md",
  ".json",
  ".yaml",
  ".yml",
  ".sh",
  ".html",
  ".css",
  ".txt",
]);
const texts = files.filter(
  (file) => TEXT.has(extname(file)) && file !== "test/tidy.test.ts" && statSync(join(root, file)).size < 1_000_000,
);

function linesMatching(pattern: RegExp, among: string[]): string[] {
  return among.flatMap((file) =>
    read(file)
      .split("\n")
      .flatMap((line, index) => (pattern.test(line) ? [`${file}:${index + 1}: ${line.trim()}`] : [])),
  );
}

test("nothing is left open", () => {
  const code = texts.filter((file) => !file.endsWith(".md") && file !== "package-lock.json" && file !== "LICENSE");
  assert.deepEqual(
    linesMatching(/\b(TODO|FIXME|XXX)\b|\bnot implemented\b|\bunimplemented\b|\.(only|todo)\(/, code),
    [],
  );
});

test("no path of a developer's machine is in a file", () => {
  const among = texts.filter((file) => file !== "package-lock.json");
  assert.deepEqual(linesMatching(/(^|[\s"'`(=:])\/(work|home\/\w+|Users)(\/|\b)/, among), []);
});

test("the lock file names no registry", () => {
  const lock = JSON.parse(read("package-lock.json")) as { packages: Record<string, { resolved?: string }> };
  const named = Object.entries(lock.packages).filter(([, { resolved }]) => resolved?.startsWith("http"));
  assert.deepEqual(
    named.map(([path]) => path),
    [],
  );
});

test("the lock file is complete, so that npm ci takes it with any registry (node scripts/lock.mjs mends it)", () => {
  const lock = JSON.parse(read("package-lock.json")) as {
    packages: Record<string, { optionalDependencies?: Record<string, string> }>;
  };
  const missing = Object.entries(lock.packages).flatMap(([of, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).filter(
      (name) => !(`node_modules/${name}` in lock.packages) && !(`${of}/node_modules/${name}` in lock.packages),
    ),
  );
  assert.deepEqual(missing, []);
});

test("links in the pages lead somewhere", () => {
  const pages = files.filter((file) => file.endsWith(".md"));
  const wrong = pages.flatMap((page) =>
    [...read(page).matchAll(/\]\(([^)\s]+)\)/g)].flatMap((match) => {
      const [path, anchor] = match[1]!.split("#");
      if (/^[a-z]+:/.test(match[1]!)) return [];
      const target = path === "" ? page : relative(root, resolve(root, dirname(page), path!));
      if (!existsSync(join(root, target))) return [`${page}: ${match[1]}`];
      if (anchor === undefined || !target.endsWith(".md")) return [];
      return anchorsOf(target).has(anchor) ? [] : [`${page}: ${match[1]} (no such heading)`];
    }),
  );
  assert.deepEqual(wrong, []);
});

function anchorsOf(page: string): Set<string> {
  const slug = (heading: string) =>
    heading
      .trim()
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .replace(/\s/g, "-");
  return new Set([...read(page).matchAll(/^#{1,6}\s+(.+)$/gm)].map((match) => slug(match[1]!)));
}

/** What every process has, rather than a kind: its state is not of one shape, and lies where its parts are. */
const OF_EVERY_PROCESS = new Set(["descriptor", "memory", "process"]);

test("every kind of resource has the same files and test programs", () => {
  const folder = join(root, "src/resources");
  const kinds = existsSync(folder)
    ? readdirSync(folder, { withFileTypes: true })
        .filter((entry) => entry.isDirectory() && !OF_EVERY_PROCESS.has(entry.name))
        .map((entry) => entry.name)
    : [];
  const wrong = kinds.flatMap((kind) => {
    const index = `src/resources/${kind}/index.ts`;
    const missing = !files.includes(index)
      ? [index]
      : /^export (interface |type |const |type \{[^}]*\b)\w*(State|Schema)\b/m.test(read(index))
        ? []
        : [`${index}: no exported …State or …Schema, the shape of its image`];
    const programs = files.filter((file) => file.startsWith(`test/programs/${kind}/`) && file.endsWith(".c"));
    return [...missing, ...(programs.length === 0 ? [`test/programs/${kind}/*.c`] : [])];
  });
  assert.deepEqual(wrong, []);
});
