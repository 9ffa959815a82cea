/** A standby's wait for programs that its node lacks: what comes meanwhile is kept until the primary has sent them. */
import type { ProgramPart } from "../files/program-file.ts";
import { damaged, type Message } from "../replication/frames.ts";
import type { Program } from "../tree/programs.ts";
import type { Clone } from "./standby.ts";

export class ProgramWait {
  readonly #clone: Clone;
  readonly #ask: (paths: string[]) => void;
  #wanted: Program[] | undefined;
  #kept: Message[] = [];

  /** @param ask tells the primary which ones are wanted */
  constructor(clone: Clone, ask: (paths: string[]) => void) {
    this.#clone = clone;
    this.#ask = ask;
  }

  /** Told of before anything maps them: the primary waits for the answer. */
  told(programs: readonly Program[]): void {
    this.#want(this.#clone.differing(programs));
  }

  /** Whether this message has to wait: for what was asked for, or, a checkpoint's end, for what it maps and is not here. */
  holds(message: Message): boolean {
    if (message.type !== "operation" && message.type !== "end") return false;
    if (!this.#wanted && message.type === "end") {
      const lacking = this.#clone.lackingFor(message.end);
      if (lacking.length > 0) this.#want(lacking);
    }
    if (!this.#wanted) return false;
    this.#kept.push(message);
    return true;
  }

  #want(programs: Program[]): void {
    this.#wanted = programs;
    this.#ask(programs.map(({ path }) => path));
  }

  part(part: ProgramPart): void {
    if (!this.#wanted) throw damaged("a program that nobody asked for");
    this.#clone.takeProgram(part);
  }

  /** Everything asked for was sent. @returns what was told of meanwhile @throws OperatingError `program-differs` */
  sent(): { programs: Program[]; kept: Message[] } {
    const programs = this.#wanted;
    if (!programs) throw damaged("programs that nobody asked for");
    this.#clone.checkPrograms(programs);
    this.#wanted = undefined;
    return { programs, kept: this.#kept.splice(0) };
  }
}
