/** Runs the machine's own tools (ip, nft, nsenter) and says what they said when they fail. */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";

export interface CommandResult {
  /** Exit code; 128 + signal number when a signal ended it, as a shell counts. */
  code: number;
  stdout: string;
  stderr: string;
}

export interface CollectOptions {
  /** Written to standard input, which is then closed. */
  input?: string;
  /** Milliseconds; afterwards the command is killed. */
  timeoutMs?: number;
}

const SIGNAL_NUMBERS: Record<string, number> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGTERM: 15,
};

/** Exit code as a shell gives it. */
export function exitCode(code: number | null, signal: NodeJS.Signals | null): number {
  return code ?? 128 + (SIGNAL_NUMBERS[signal ?? "SIGKILL"] ?? 0);
}

/** Resolves when the process has ended and its output is complete. */
export function collect(child: ChildProcess, options: CollectOptions = {}): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const output = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const) {
      child[name]?.setEncoding("utf8").on("data", (text: string) => {
        output[name] += text;
      });
    }
    const timer =
      options.timeoutMs === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), options.timeoutMs);
    child.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      resolve({ code: exitCode(code, signal), ...output });
    });
    // A command that does not read its input closes it; that is its right.
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.input ?? "");
  });
}

/**
 * Runs a command that must succeed and returns its standard output.
 * In a process group of its own: an interrupt typed at the terminal is for us, who then clean up with such commands.
 */
export async function run(argv: string[], options: CollectOptions & SpawnOptions = {}): Promise<string> {
  const child = spawn(argv[0]!, argv.slice(1), { ...options, stdio: ["pipe", "pipe", "pipe"], detached: true });
  const { code, stdout, stderr } = await collect(child, options);
  if (code !== 0) throw new Error(`"${argv.join(" ")}" failed with exit code ${code}: ${(stderr || stdout).trim()}`);
  return stdout;
}

/** Many commands of ip(8) in one process, stopping at the first that fails. `namespace`: where they run. */
export async function ipBatch(lines: string[], namespace?: string): Promise<void> {
  await run(["ip", ...(namespace === undefined ? [] : ["-n", namespace]), "-batch", "-"], {
    input: `${lines.join("\n")}\n`,
  });
}
