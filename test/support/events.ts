/**
 * The events that every test program goes through, in one run each: dumps that it must not notice, a dump aborted in the
 * stop, a life as a clone, a second clone made of the first.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { allRuns } from "../matrix/programs.ts";
import { setAsideHugePages } from "./huge-pages.ts";
import { closeHosts, type Life, runProgram } from "./local-clone.ts";
import { buildPrograms, programPath } from "./programs.ts";

export interface ProgramTest {
  /** KIND/NAME of test/programs. */
  program: string;
  args?: string[];
  /** Checkpoints while it is only watched. */
  dumps?: number;
  /** Does nothing by itself: two dumps of it must be equal, and any checkpoint after the last question has all of it. */
  idle?: boolean;
}

/** Processes are looked at more closely in their first half second. */
const YOUNG_MS = 600;

const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

async function good(life: Life): Promise<void> {
  assert.equal(await life.check(), "ok");
}

async function dumps(life: Life, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const { error } = await life.checkpoint();
    if (error && error !== "barrier-timeout") assert.fail(error);
    await pause(5);
  }
}

async function isUnnoticed(life: Life, { dumps: count = 3, idle = false }: ProgramTest): Promise<void> {
  await dumps(life, count);
  await good(life);
  await dumps(life, count);
  await good(life);
  if (!idle) return;
  await life.checkpoint();
  await pause(20);
  const { changed, gone, error } = await life.checkpoint();
  assert.deepEqual(
    { changed, gone, error },
    { changed: [], gone: [], error: undefined },
    "two dumps of an idle program",
  );
}

async function aborts(life: Life): Promise<void> {
  await life.checkpoint();
  await good(life);
  const { error } = await life.checkpoint({ failInMark: true });
  assert.equal(error, "injected");
  await good(life);
  const again = await life.checkpoint({ failInMark: true, noPreDump: true });
  assert.equal(again.error, "injected");
}

function hugePagesOf(program: string): number {
  return allRuns().find((run) => run.program === program)?.hugePages ?? 0;
}

/** Registers the tests of programs; each is a run of its own. */
export function testPrograms(title: string, programs: ProgramTest[]): void {
  describe(title, () => {
    before(buildPrograms);
    after(closeHosts);
    for (const options of programs) {
      const name = [options.program, ...(options.args ?? [])].join(" ");
      test(name, async (t) => {
        const hugePages = hugePagesOf(options.program);
        if (hugePages > 0) t.after(setAsideHugePages(hugePages));
        let life = await runProgram(programPath(options.program), options.args);
        t.after(() => life.close());
        assert.equal(await life.line(0), "ready");
        const step = async (event: string, body: () => Promise<void>) => {
          let failure: unknown;
          await t.test(event, async () => {
            try {
              await body();
            } catch (error) {
              failure = error;
              throw error;
            }
          });
          return failure === undefined;
        };
        (await step("is dumped and does not notice", () => isUnnoticed(life, options))) &&
          (await step("aborted dumps", () => aborts(life))) &&
          (await step("clone lives", async () => {
            life = await life.liveOnCloneAndKillOriginal();
            await good(life);
            await good(life);
          })) &&
          (await step("clone of the clone lives", async () => {
            await dumps(life, 2);
            await good(life);
            life = await life.liveOnCloneAndKillOriginal();
            await good(life);
          })) &&
          options.idle &&
          (await step("clone lives from a checkpoint that was not the last", async () => {
            await dumps(life, 1);
            await pause(YOUNG_MS);
            await dumps(life, 1);
            await good(life);
            life = await life.liveOnCloneAndKillOriginal({ final: false });
            await good(life);
          }));
      });
    }
  });
}
