/**
 * The random programs of test/unit/files, as many as wanted.
 *
 *   npm run test:files -- --runs 10000 [--cuts N] [--seed N]
 */
import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "1000" },
    cuts: { type: "string", default: "200" },
    seed: { type: "string" },
  },
});
const root = resolve(import.meta.dirname, "..");
const files = ["files", "concurrent"].map((name) => resolve(root, `test/unit/files/${name}.test.ts`));
const result = spawnSync(process.execPath, ["--test", "--test-concurrency=1", ...files], {
  stdio: "inherit",
  env: {
    ...process.env,
    FILES_RUNS: values.runs,
    FILES_CUTS: values.cuts,
    ...(values.seed === undefined ? {} : { FILES_SEED: values.seed }),
  },
});
process.exit(result.status ?? 1);
