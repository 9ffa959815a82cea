/** A tmux with a shell and an editor in it: sessions, terminals, jobs; what was typed is on the screen and in the file. */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { createInterface, type Interface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Lab } from "../../src/lab/lab.ts";
import { eventually, Hopeless } from "../support/eventually.ts";
import { endure, HARDSHIPS, HOST, stage, tellWhatHappened } from "./support.ts";

const CONSOLE = fileURLToPath(new URL("programs/console.py", import.meta.url));
const RELAY = fileURLToPath(new URL("client/relay.ts", import.meta.url));
const PORT = "7000";
const TEXT = "/root/understudy-test.txt";

/** tmux by remote control; one connection all the time. */
class Keyboard {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  readonly #answers: string[] = [];

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout! });
    this.#lines.on("line", (line) => this.#answers.push(JSON.parse(line) as string));
  }

  static async connect(lab: Lab): Promise<Keyboard> {
    return new Keyboard(await lab.spawnInClient([process.execPath, RELAY, HOST, PORT]));
  }

  async run(...argv: string[]): Promise<string> {
    this.#child.stdin!.write(`${JSON.stringify(argv)}\n`);
    await eventually(`an answer to ${argv.join(" ")}`, () => {
      if (this.#child.exitCode !== null) throw new Hopeless("The connection has broken");
      return this.#answers.length > 0;
    });
    return this.#answers.shift()!;
  }

  type(window: string, ...keys: string[]): Promise<string> {
    return this.run("tmux", "send-keys", "-t", `work:${window}`, ...keys);
  }

  async screenShows(window: string, ...texts: string[]): Promise<void> {
    let screen = "";
    const shows = async () => {
      screen = await this.run("tmux", "capture-pane", "-p", "-t", `work:${window}`);
      return texts.every((text) => screen.includes(text));
    };
    await eventually(`window ${window} shows ${texts.join(", ")}`, shows).catch((cause: unknown) => {
      throw new Error(`The screen of ${window}:\n${screen}`, { cause });
    });
  }

  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
  }
}

test("tmux with a shell and an editor: screens, jobs and the file", { timeout: 400_000 }, async (context) => {
  await using application = await stage("tmux", {
    command: ["/usr/bin/python3", CONSOLE],
    environment: { LANG: "C.UTF-8", TERM: "xterm", HOME: "/root" },
  });
  try {
    using keyboard = await Keyboard.connect(application.lab);
    const shell = ["bash", "--norc", "--noprofile"];
    await keyboard.run("tmux", "new-session", "-d", "-s", "work", "-n", "shell", "-x", "90", "-y", "30", ...shell);
    await keyboard.run(
      "tmux",
      "new-window",
      "-d",
      "-t",
      "work",
      "-n",
      "editor",
      "nano",
      "--ignorercfiles",
      "--nonewlines",
      TEXT,
    );
    await keyboard.screenShows("editor", "GNU nano", "Exit");
    await keyboard.type("shell", "x=0; sleep 10000 &", "Enter");

    const typed: string[] = [];
    let round = 0;
    const use = async () => {
      round++;
      // A job in the foreground is interrupted at the keyboard, the one in the background stays.
      await keyboard.type("shell", `clear; x=$((x+1)); echo "value $x"; jobs; stty size; tty; sleep 5000`, "Enter");
      await keyboard.screenShows("shell", `value ${round}`, "Running", "sleep 10000 &", "30 90", "/dev/pts/");
      await keyboard.type("shell", "C-c");
      await keyboard.type("shell", "echo ended with $?", "Enter");
      await keyboard.screenShows("shell", "ended with 130");
      typed.push(`line ${round} of the text`);
      await keyboard.type("editor", typed.at(-1)!, "Enter");
      await keyboard.screenShows("editor", "Modified", ...typed);
    };
    await endure(application, HARDSHIPS, use);

    await keyboard.type("editor", "C-o", "Enter");
    await keyboard.screenShows("editor", "Wrote");
    assert.equal(await keyboard.run("cat", TEXT), `${typed.join("\n")}\n`);
    await keyboard.type("editor", "C-x");
    await eventually("the editor has ended", async () => {
      const windows = await keyboard.run("tmux", "list-windows", "-t", "work", "-F", "#W");
      return windows.trim() === "shell";
    });
  } catch (error) {
    await tellWhatHappened(context, application);
    throw error;
  }
});
