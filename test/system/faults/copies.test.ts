/** A dead capture process whose successor comes late, when the record has moved on: what it left must end all the same. */
import { test } from "node:test";
import { answersCome, assertOneCopy, eventually, freeze, instancePid, stageRedis, underLoad } from "./support.ts";

const { lab, site } = stageRedis("cop", { nodes: 3 }, async (site) => {
  await site.protect({ standby: ["node-b", "node-c"] });
  await site.fill(5);
});

test("kill -9 of the capture process, its successor comes late: one copy is left", { timeout: 180_000 }, async () => {
  await underLoad(site, async (counters) => {
    const { primary } = await site.untilProtected();
    const dead = await instancePid(lab, primary!);
    process.kill(dead, "SIGKILL");
    using _late = freeze(await successorOf(dead, primary!));
    await eventually("another node is primary, and does without this one", async () => {
      const { primary: now, inSync } = await site.report();
      return now !== primary && !inSync.includes(primary!);
    });
    await answersCome(counters);
  });
  await site.untilProtected();
  await assertOneCopy(site);
});

/** As soon as there is one: before it has read the record. */
async function successorOf(dead: number, node: string): Promise<number> {
  const deadline = performance.now() + 30_000;
  while (performance.now() < deadline) {
    const now = await instancePid(lab, node).catch(() => dead);
    if (now !== dead) return now;
  }
  throw new Error(`"${node}" has no other instance after 30 s`);
}
