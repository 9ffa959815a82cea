/**
 * Completes package-lock.json after `npm install --save-exact …`: `node scripts/lock.mjs`.
 *
 * npm leaves an optional package of another platform out of the lock file when the registry in use does not serve it,
 * and `npm ci` then refuses the lock file. Such a package is never installed here, so its name, version and platform are
 * all that is needed. Also takes the registry's address out of the entries.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const path = fileURLToPath(new URL("../package-lock.json", import.meta.url));
const lock = JSON.parse(readFileSync(path, "utf8"));
const SYSTEMS = [
  "aix",
  "android",
  "darwin",
  "freebsd",
  "linux",
  "netbsd",
  "openbsd",
  "openharmony",
  "sunos",
  "wasm32",
  "win32",
];
const PROCESSORS = ["arm", "arm64", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "x64"];

let added = 0;
for (const [of, { optionalDependencies = {} }] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(optionalDependencies)) {
    const where = `node_modules/${name}`;
    if (lock.packages[where] || lock.packages[`${of}/${where}`]) continue;
    const words = name.split("/").at(-1).split("-");
    const os = words.find((word) => SYSTEMS.includes(word));
    const cpu = words.find((word) => PROCESSORS.includes(word));
    if (os === undefined) throw new Error(`Cannot tell the platform of "${name}", which "${of}" may use`);
    const dev = lock.packages[of].dev ? { dev: true } : {};
    const libc = words.includes("musl") ? { libc: ["musl"] } : {};
    lock.packages[where] = { version, ...(cpu ? { cpu: [cpu] } : {}), ...dev, ...libc, optional: true, os: [os] };
    added++;
  }
}
for (const entry of Object.values(lock.packages)) if (entry.resolved?.startsWith("http")) delete entry.resolved;
const [own, ...rest] = Object.entries(lock.packages);
lock.packages = Object.fromEntries([own, ...rest.sort(([a], [b]) => (a < b ? -1 : 1))]);
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
process.stderr.write(`package-lock.json: ${added} packages of other platforms added\n`);
