/** A program that a clone's node lacks or has another version of comes whole, with what leads to it, and over the node's own. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { before, test } from "node:test";
import { FileApply } from "../../../src/files/apply.ts";
import { CHUNK_BYTES, type FileChange } from "../../../src/files/change.ts";
import { type ProgramPart, ProgramTaker, programParts } from "../../../src/files/program-file.ts";
import { closeDescriptor, openPath } from "../../../src/kernel/calls.ts";
import { type Layer, Overlays, ownMounts } from "./overlays.ts";
import { describe } from "./program.ts";

before(() => ownMounts());

interface Nodes {
  primary: string;
  /** The standby's own files, below the clone's layer. */
  own: string;
  clone: Layer;
  send: (path: string, alter?: (part: ProgramPart) => ProgramPart) => void;
}

function onNodes(body: (nodes: Nodes) => void): void {
  const overlays = new Overlays();
  const primary = overlays.path("primary");
  const own = overlays.path("standby");
  const rootFd = openPath(primary, 0);
  const clone = overlays.mount("clone", own);
  const apply = new FileApply(clone.rootFd);
  const taker = new ProgramTaker(clone.rootFd, (change: FileChange) => apply.apply({ op: "file", change }));
  try {
    const send: Nodes["send"] = (path, alter = (part) => part) => {
      for (const part of programParts(rootFd, path)) taker.take(alter(part));
    };
    body({ primary, own, clone, send });
  } finally {
    apply.close();
    closeDescriptor(rootFd);
    overlays.remove();
  }
}

test("a missing library: its directories, its bytes, its attributes, its names", () =>
  onNodes(({ primary, clone, send }) => {
    fs.mkdirSync(`${primary}/opt/app/lib`, { recursive: true });
    fs.chmodSync(`${primary}/opt/app`, 0o750);
    const library = `${primary}/opt/app/lib/libx.so.1.2`;
    fs.writeFileSync(library, Buffer.alloc(2 * CHUNK_BYTES + 17, "text"));
    fs.chmodSync(library, 0o555);
    fs.chownSync(library, 1, 2);
    fs.utimesSync(library, 1000, 2000);
    fs.symlinkSync("libx.so.1.2", `${primary}/opt/app/lib/libx.so.1`);
    fs.symlinkSync("./libx.so.1", `${primary}/opt/app/lib/libx.so`);
    send("/opt/app/lib/libx.so.1.2");
    const { mtimeMs } = fs.statSync(`${clone.root}/opt/app/lib/libx.so.1.2`);
    assert.equal(mtimeMs, 2_000_000);
    // A directory's times change with what comes into it.
    for (const path of ["opt", "opt/app", "opt/app/lib"])
      for (const root of [primary, clone.root]) fs.utimesSync(`${root}/${path}`, 1, 1);
    assert.deepEqual(describe(`${clone.root}/opt`), describe(`${primary}/opt`));
  }));

test("another version: the primary's is seen, the node's own stays as it is; other names in its directory too", () =>
  onNodes(({ primary, own, clone, send }) => {
    for (const root of [primary, own]) fs.mkdirSync(`${root}/lib`);
    fs.writeFileSync(`${primary}/lib/libx.so.1.2`, "new");
    fs.writeFileSync(`${own}/lib/libx.so.1.2`, "other");
    fs.writeFileSync(`${own}/lib/libx.so.1.1`, "old");
    fs.symlinkSync("libx.so.1.2", `${primary}/lib/libx.so`);
    fs.symlinkSync("elsewhere", `${primary}/lib/liby.so`);
    fs.symlinkSync("libx.so.1.1", `${own}/lib/libx.so`);
    send("/lib/libx.so.1.2");
    assert.equal(fs.readFileSync(`${clone.root}/lib/libx.so`, "utf8"), "new");
    assert.equal(fs.readFileSync(`${own}/lib/libx.so.1.2`, "utf8"), "other");
    assert.equal(fs.readlinkSync(`${own}/lib/libx.so`), "libx.so.1.1");
    assert.deepEqual(fs.readdirSync(`${clone.root}/lib`).sort(), ["libx.so", "libx.so.1.1", "libx.so.1.2"]);
  }));

test("what cannot be brought is refused by name: a way that is taken, bytes that were altered", () =>
  onNodes(({ primary, own, send }) => {
    fs.mkdirSync(`${primary}/usr/lib`, { recursive: true });
    fs.writeFileSync(`${primary}/usr/lib/libx.so`, "text");
    fs.mkdirSync(`${own}/lib`);
    fs.symlinkSync("lib", `${own}/usr`);
    assert.throws(() => send("/usr/lib/libx.so"), { code: "program-differs", message: /"\/usr".*no directory/ });
    fs.writeFileSync(`${primary}/program`, "text");
    const altered = (part: ProgramPart) => (part.type === "bytes" ? { ...part, bytes: Buffer.from("Text") } : part);
    assert.throws(() => send("/program", altered), { code: "program-differs", message: /"\/program"/ });
  }));

test("what is not there, or no file, has no parts", () =>
  onNodes(({ primary }) => {
    fs.mkdirSync(`${primary}/directory`);
    fs.symlinkSync("directory", `${primary}/link`);
    const rootFd = openPath(primary, 0);
    for (const path of ["/directory", "/link", "/none"]) assert.deepEqual([...programParts(rootFd, path)], []);
    closeDescriptor(rootFd);
  }));
