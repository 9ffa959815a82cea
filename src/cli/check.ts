/**
 * `understudy check [-- COMMAND]`: says beforehand what can and cannot be protected, and why; with `--run SECONDS` after
 * having watched it. `understudy check NAME`: what an application that runs under protection was last refused for.
 */
import { openSync, readFileSync, readSync } from "node:fs";
import { type Command, InvalidArgumentError } from "commander";
import type { ApplicationReport } from "../agent/api-types.ts";
import type { Rehearsal } from "../agent/rehearsal.ts";
import { OperatingError } from "../kernel/failure.ts";
import { print, printJson, say } from "./output.ts";
import { patiently } from "./progress.ts";
import { type RemoteOptions, remoteCommand, withAgent } from "./remote.ts";

interface ProgramReport {
  program: string;
  ok: boolean;
  findings: { ok: boolean; message: string; code?: string; remedy?: string }[];
}

interface Options extends RemoteOptions {
  run?: number;
  env?: Record<string, string>;
  directory?: string;
}

/** What a program that names such a library may need. */
const libraries: [pattern: string, message: string][] = [
  ["libcuda.so", "It uses CUDA: state in a GPU cannot be captured."],
  ["libOpenCL.so", "It uses OpenCL: state in a GPU cannot be captured."],
  ["libvulkan.so", "It uses Vulkan: state in a GPU cannot be captured."],
  ["libibverbs.so", "It uses RDMA: state in the network card cannot be captured."],
  ["liburing.so", "It can use io_uring, which looks absent under protection; it must be able to do without."],
  ["libaio.so", "It can use io_setup, which looks absent under protection; it must be able to do without."],
];

export function registerCheck(program: Command): void {
  remoteCommand(
    program,
    "check [command...]",
    "what this machine offers; -- COMMAND: whether it can be protected; NAME: what a running one was refused for",
  )
    .option("--run <seconds>", "run the command so long in a sandbox, and look at all it uses", seconds)
    .option("--directory <path>", "its working directory there (default: /)")
    .action(async (words: string[], options: Options) => {
      const { checkHost } = await import("./check-host.ts");
      const { json = false } = options;
      if (words.length === 0) return checkHost({ json });
      const name = process.argv.includes("--") || options.run !== undefined ? undefined : words[0];
      if (name !== undefined && words.length === 1) return checkApplication(name, options);
      const { probeHost, requireHost } = await import("../kernel/host.ts");
      const host = await probeHost();
      const report = await checkCommand(words);
      if (report.ok && options.run !== undefined) {
        requireHost(host);
        await addRehearsal(report, words, options.run, options.directory ?? "/");
      }
      if (json) printJson({ host, program: report });
      else print(asText(report, options.run !== undefined));
      requireHost(host);
      failUnless(report.ok, `"${words[0]}" cannot be protected`, json);
    });
}

/** With `json` the reasons are the document, and there is but one. */
function failUnless(ok: boolean, message: string, json: boolean): void {
  if (ok) return;
  if (!json) throw new OperatingError("not-protectable", message, { remedy: "The reasons stand above." });
  say(`understudy: ${message}`);
  process.exitCode = 1;
}

function seconds(value: string): number {
  const number = Number(value);
  if (!(number > 0 && number <= 3600)) throw new InvalidArgumentError("Give seconds, at most 3600.");
  return number;
}

/** @throws OperatingError `program-not-found`, `program-not-executable` */
export async function checkCommand(command: string[]): Promise<ProgramReport> {
  const { checkProgram, defaultPath } = await import("../agent/protect-request.ts");
  const environment = { PATH: process.env.PATH ?? defaultPath };
  const path = checkProgram({ command, environment, workingDirectory: process.cwd() });
  const findings = [{ ok: true, message: `The program is ${path}.` }, ...examine(path)];
  return { program: path, ok: findings.every(({ ok }) => ok), findings };
}

async function addRehearsal(
  report: ProgramReport,
  command: string[],
  runSeconds: number,
  workingDirectory: string,
): Promise<void> {
  const { rehearse } = await import("../agent/rehearsal.ts");
  const { defaultPath } = await import("../agent/protect-request.ts");
  const environment = { PATH: process.env.PATH ?? defaultPath, HOME: "/root", LANG: "C.UTF-8" };
  const abort = new AbortController();
  const interrupt = () => abort.abort(new OperatingError("interrupted", "Interrupted: nothing is left of the run"));
  process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
  const program = { command: [report.program, ...command.slice(1)], environment, workingDirectory };
  const rehearsal = await patiently(
    `Running "${command[0]}" for ${runSeconds} s`,
    rehearse(program, runSeconds, abort.signal),
  );
  report.findings.push(...findingsOf(rehearsal));
  report.ok = report.findings.every(({ ok }) => ok);
}

function findingsOf(rehearsal: Rehearsal): ProgramReport["findings"] {
  const { ended, output, processes, threads, stopUs, findings, remarks } = rehearsal;
  const said = output === "" ? "" : `; it said last:\n${output.replaceAll(/^/gm, "       ")}`;
  const found = findings.map(({ code, message, remedy }) => ({
    ok: false,
    code,
    message: `${message}.`,
    ...(remedy === undefined ? {} : { remedy }),
  }));
  if (ended !== undefined)
    return [
      ...found,
      {
        ok: false,
        code: "program-ended",
        message: `It ${ended} before its time was over, so nothing could be looked at${said}`,
        remedy: "Give it what it needs to keep running, or a shorter time.",
      },
    ];
  const ran = { ok: true, message: `It ran with ${processes} processes and ${threads} threads.` };
  const remarked = remarks.map(({ message, ...rest }) => ({ ok: true, ...rest, message: `${message}.` }));
  if (stopUs === undefined) return [ran, ...found, ...remarked];
  return [ran, ...found, ...remarked, { ok: true, message: "A checkpoint of all it used was taken." }];
}

async function checkApplication(name: string, options: Options): Promise<void> {
  const path = `/v1/applications/${encodeURIComponent(name)}`;
  const { instance, state } = await withAgent(options, (agent) => agent.json<ApplicationReport>("GET", path));
  const refusal = instance?.unprotectable;
  const taken = (instance?.figures.checkpoints ?? 0) > 0;
  const ok = refusal === undefined;
  if (options.json) printJson({ application: name, state, ok, known: taken || !ok, refusal: refusal ?? null });
  else if (refusal) print(`no   ${refusal.message} (since ${refusal.since}).\n     ${refusal.remedy ?? ""}`.trimEnd());
  else if (taken) print(`yes  Its last checkpoint took all that it uses (epoch ${instance!.epoch}).`);
  else print(`     No checkpoint has been tried yet: "${name}" is ${state}. See: understudy status ${name}`);
  failUnless(ok, `"${name}" cannot be protected now`, options.json ?? false);
}

function examine(path: string): ProgramReport["findings"] {
  const head = readHead(path);
  if (head.subarray(0, 2).toString() === "#!") {
    const interpreter = head.toString().slice(2).split("\n")[0]!.trim().split(/\s+/)[0]!;
    return [{ ok: true, message: `It is a script of ${interpreter}.` }];
  }
  if (head.readUInt32BE(0) !== 0x7f454c46)
    return [{ ok: false, message: "It is neither an ELF program nor a script." }];
  // ELF header (elf(5)): class at 4, machine at 18; 62 is x86-64.
  if (head[4] !== 2 || head.readUInt16LE(18) !== 62) {
    return [{ ok: false, message: "It is not a 64-bit x86 program; only those can be protected yet." }];
  }
  const content = readFileSync(path);
  const found = libraries.filter(([pattern]) => content.includes(pattern));
  return [
    { ok: true, message: "It is a 64-bit x86 program." },
    ...found.map(([pattern, message]) => ({ ok: pattern === "liburing.so", message })),
  ];
}

function readHead(path: string): Buffer {
  const head = Buffer.alloc(256);
  readSync(openSync(path, "r"), head, 0, head.length, 0);
  return head;
}

function asText({ findings, ok }: ProgramReport, hasRun: boolean): string {
  const lines = findings.flatMap(({ ok: good, code, message, remedy }) => {
    const verdict = !good ? "no " : code === undefined ? "yes" : "but";
    return [`${verdict}  ${message}`, ...(remedy === undefined ? [] : [`     ${remedy}`])];
  });
  const rest = "What it opens while it runs is checked when its protection starts, or now with --run SECONDS.";
  return `${[...lines, ...(ok && !hasRun ? [rest] : [])].join("\n")}\n`;
}
