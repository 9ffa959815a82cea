/** The application's own files on this node: of the running application, of its clone, or of one that has ended. */
import { existsSync, readdirSync } from "node:fs";
import { setImmediate as turn } from "node:timers/promises";
import { exportSteps } from "../files/export.ts";
import { showName } from "../files/names.ts";
import { type FilePlace, OwnFiles } from "../files/own.ts";
import { closeDescriptor } from "../kernel/calls.ts";
import { OperatingError } from "../kernel/failure.ts";
import { readAt } from "../kernel/files.ts";
import { FrameWriter } from "../replication/frames.ts";
import { reachDisk } from "../stage/disk.ts";
import { layerPaths } from "../stage/root.ts";
import type { FileListing } from "./api-types.ts";
import type { AgentContext } from "./context.ts";

const CHUNK_BYTES = 1 << 20;

interface Here {
  role: FileListing["role"];
  places: FilePlace[];
}

/** @throws OperatingError `application-unknown`, `files-not-here` */
async function find(context: AgentContext, name: string): Promise<Here> {
  const { spec, view } = await context.records.known(name);
  const filesDirectory = context.layout.filesDirectory(name);
  if (context.instances.get(name) === undefined) reachDisk(filesDirectory);
  const { upper } = layerPaths(filesDirectory);
  if (!existsSync(upper)) {
    throw new OperatingError("files-not-here", `"${context.node}" has no files of "${name}"`, {
      remedy: `See where it runs and where its clones are: understudy status ${name}`,
      details: { application: name, node: context.node },
    });
  }
  const places: FilePlace[] = [{ at: "/", directory: upper }];
  for (const { path, directory } of spec.value.volumes)
    if (directory !== undefined && existsSync(directory))
      places.push({ at: Buffer.from(path).toString("latin1"), directory });
  const instance = context.instances.get(name);
  await instance?.refresh();
  const init = instance?.status?.initPid ?? 0;
  const shared = `/proc/${init}/root/dev/shm`;
  if (init > 0 && existsSync(shared) && readdirSync(shared).length > 0)
    places.push({ at: "/dev/shm", directory: shared });
  const part = instance?.status?.role ?? (view?.value.primary === context.node ? "primary" : "standby");
  return { role: view?.value.ended ? "ended" : part, places };
}

/** @throws OperatingError `files-not-here`, `file-unknown` */
export async function listingOf(context: AgentContext, name: string, path: string): Promise<FileListing> {
  const { role, places } = await find(context, name);
  const files = new OwnFiles(places);
  try {
    const entry = files.entry(path);
    const isDirectory = entry.type === "directory" || (entry.type === "symlink" && files.isDirectory(path));
    const entries = isDirectory ? await files.list(path) : [entry];
    return { application: name, node: context.node, role, path: showName(path), isDirectory, entries };
  } finally {
    files.close();
  }
}

/** A file's bytes, as long as it is at the beginning. @throws OperatingError `files-not-here`, `file-unknown`, `file-not-regular` */
export async function contentOf(context: AgentContext, name: string, path: string): Promise<AsyncIterable<Buffer>> {
  const { places } = await find(context, name);
  const files = new OwnFiles(places);
  try {
    return pieces(files.open(path));
  } finally {
    files.close();
  }
}

async function* pieces({ fd, size }: { fd: number; size: number }): AsyncGenerator<Buffer> {
  try {
    for (let at = 0; at < size; ) {
      const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size - at));
      const n = readAt(fd, chunk, at);
      // It has become shorter meanwhile.
      if (n === 0) return;
      yield chunk.subarray(0, n);
      at += n;
      await turn();
    }
  } finally {
    closeDescriptor(fd);
  }
}

/** Frames of the stream between nodes with the steps that make a directory's copy; a goodbye "complete" ends them. */
export async function exportOf(context: AgentContext, name: string, path: string): Promise<AsyncIterable<Buffer>> {
  const { places } = await find(context, name);
  const files = new OwnFiles(places);
  try {
    return frames(files, files.below(path));
  } catch (error) {
    files.close();
    throw error;
  }
}

async function* frames(files: OwnFiles, places: FilePlace[]): AsyncGenerator<Buffer> {
  const writer = new FrameWriter();
  let waiting: Buffer[] = [];
  let bytes = 0;
  try {
    for (const change of exportSteps(places)) {
      const encoded = writer.encode({ type: "operation", operation: { op: "file", change } });
      for (const part of encoded) bytes += part.length;
      waiting.push(...encoded);
      if (bytes < CHUNK_BYTES) continue;
      yield Buffer.concat(waiting);
      waiting = [];
      bytes = 0;
      await turn();
    }
    yield Buffer.concat([...waiting, ...writer.encode({ type: "goodbye", reason: "complete" })]);
  } finally {
    files.close();
  }
}
