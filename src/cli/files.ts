/** `understudy files NAME ls|cat|export`: what the application has created or changed, for the user. */
import { once } from "node:events";
import { mkdirSync, readdirSync } from "node:fs";
import { Argument, type Command } from "commander";
import type { FileEntry, FileListing } from "../agent/api-types.ts";
import { FileApply } from "../files/apply.ts";
import { closeDescriptor, openPath } from "../kernel/calls.ts";
import { OperatingError } from "../kernel/failure.ts";
import { O_DIRECTORY, O_PATH } from "../kernel/files.ts";
import { FrameReader } from "../replication/frames.ts";
import type { Connection } from "./connect.ts";
import { bytes, print, printJson } from "./output.ts";
import { patiently } from "./progress.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";
import { table } from "./table.ts";

interface Options extends RemoteOptions {
  from: string;
}

type Action = "ls" | "cat" | "export";

const HELP = `
Its own files are those that it created or changed, as they are on the primary at this moment; with --node as they are on
that node: a clone's are those of the checkpoint that it has applied last.
A byte of a name that is not readable UTF-8 stands as \\xNN, a backslash as \\\\; paths may be given that way.`;

export function registerFiles(program: Command): void {
  remoteCommand(program, "files <name>", "its own files: ls [PATH], cat PATH, export DIRECTORY")
    .addArgument(new Argument("<action>", "what to do").choices(["ls", "cat", "export"]))
    .argument("[path]", "of the file or directory; of an export, the new directory on this machine")
    .option("--from <path>", "of an export: the directory that is copied", "/")
    .addHelpText("after", HELP)
    .action((name: string, action: Action, path: string | undefined, options: Options) =>
      withAgent(options, (agent) => run(agent, name, action, path, options)),
    );
}

async function run(agent: Connection, name: string, action: Action, path: string | undefined, options: Options) {
  const base = `/v1/applications/${encodeURIComponent(name)}/files`;
  const here = options.node === undefined ? "" : "&here=true";
  const query = (what: string) => `?path=${encodeURIComponent(what)}${here}`;
  if (action === "ls") return list(await agent.json<FileListing>("GET", base + query(path ?? "/")), options);
  if (path === undefined)
    throw new OperatingError("usage", `Say which ${action === "cat" ? "file" : "directory to make"}`, {
      remedy: "See: understudy files --help",
    });
  if (action === "cat") return show(agent.bytes("GET", `${base}/content${query(path)}`));
  const copied = copy(agent.bytes("GET", `${base}/export${query(options.from)}`), path);
  const steps = await patiently(`Copying the files of "${name}"`, copied);
  if (options.json) printJson({ application: name, directory: path, ...steps });
  else print(`${steps.files} files (${bytes(steps.bytes)}) of "${name}" are in ${path}.`);
}

function list(listing: FileListing, { json }: Options): void {
  if (json) printJson(listing);
  else if (listing.entries.length === 0) print("Nothing there is the application's own.");
  else print(table(["mode", "owner", "size", "modified", "name"], listing.entries.map(row)));
}

const LETTERS: Record<FileEntry["type"], string> = {
  file: "-",
  directory: "d",
  symlink: "l",
  fifo: "p",
  socket: "s",
  "character-device": "c",
  "block-device": "b",
};

function row({ name, type, size, mode, uid, gid, modified, target }: FileEntry): string[] {
  const link = target === undefined ? "" : ` -> ${target}`;
  return [`${LETTERS[type]}${mode}`, `${uid}:${gid}`, String(size), modified, name + link];
}

async function show(chunks: AsyncIterable<Buffer>): Promise<void> {
  for await (const chunk of chunks) if (!process.stdout.write(chunk)) await once(process.stdout, "drain");
}

/** Into a new or empty directory: whatever is in it is the application's. Holes stay holes. */
async function copy(chunks: AsyncIterable<Buffer>, directory: string): Promise<{ files: number; bytes: number }> {
  mkdirSync(directory, { recursive: true });
  if (readdirSync(directory).length > 0)
    throw new OperatingError("directory-not-empty", `"${directory}" is not empty`, {
      remedy: "Name a new directory: what is copied shall not mix with other files.",
    });
  const rootFd = openPath(directory, O_PATH | O_DIRECTORY);
  const apply = new FileApply(rootFd);
  const reader = new FrameReader();
  const done = { files: 0, bytes: 0 };
  try {
    for await (const chunk of chunks)
      for (const message of reader.feed(chunk)) {
        if (message.type === "goodbye") return done;
        if (message.type !== "operation" || message.operation.op !== "file") continue;
        const { change } = message.operation;
        apply.apply(message.operation);
        if (change.type === "file") done.files++;
        if (change.type === "write") done.bytes += change.bytes.length;
      }
    throw new OperatingError("export-incomplete", `The copy in "${directory}" is not complete`, {
      remedy: "The application moved, or its node failed meanwhile: remove the directory and try again.",
    });
  } finally {
    apply.close();
    closeDescriptor(rootFd);
  }
}
