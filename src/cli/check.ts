/** `understudy check [-- COMMAND]`: says beforehand what can and cannot be protected, and why. */
import { openSync, readFileSync, readSync } from "node:fs";
import type { Command } from "commander";
import { OperatingError } from "../kernel/failure.ts";
import { print, printJson } from "./output.ts";

interface ProgramReport {
  program: string;
  ok: boolean;
  findings: { ok: boolean; message: string }[];
}

/** What a program that names such a library may need. */
const libraries: [pattern: string, message: string][] = [
  ["libcuda.so", "It uses CUDA: state in a GPU cannot be captured."],
  ["libOpenCL.so", "It uses OpenCL: state in a GPU cannot be captured."],
  ["libvulkan.so", "It uses Vulkan: state in a GPU cannot be captured."],
  ["libibverbs.so", "It uses RDMA: state in the network card cannot be captured."],
  ["liburing.so", "It can use io_uring, which looks absent under protection; it must be able to do without."],
];

export function registerCheck(program: Command): void {
  program
    .command("check [command...]")
    .description("say what this machine offers, and of COMMAND what can be known before it runs")
    .option("--json", "print one JSON document")
    .action(async (command: string[], { json = false }: { json?: boolean }) => {
      const { checkHost } = await import("./check-host.ts");
      if (command.length === 0) return checkHost({ json });
      const { probeHost, requireHost } = await import("../kernel/host.ts");
      const host = await probeHost();
      const report = await checkCommand(command);
      if (json) printJson({ host, program: report });
      else print(asText(report));
      requireHost(host);
      if (!report.ok) {
        throw new OperatingError("not-protectable", `"${command[0]}" cannot be protected`, {
          remedy: "The reasons stand above.",
        });
      }
    });
}

/** @throws OperatingError `program-not-found`, `program-not-executable` */
export async function checkCommand(command: string[]): Promise<ProgramReport> {
  const { checkProgram, defaultPath } = await import("../agent/protect-request.ts");
  const environment = { PATH: process.env.PATH ?? defaultPath };
  const path = checkProgram({ command, environment, workingDirectory: process.cwd() });
  const findings = [{ ok: true, message: `The program is ${path}.` }, ...examine(path)];
  return { program: path, ok: findings.every(({ ok }) => ok), findings };
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

function asText({ findings, ok }: ProgramReport): string {
  const lines = findings.map((finding) => `${finding.ok ? "yes" : "no "}  ${finding.message}`);
  const rest = "What it opens while it runs is checked when its protection starts.";
  return `${[...lines, ...(ok ? [rest] : [])].join("\n")}\n`;
}
