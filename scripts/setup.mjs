/**
 * Set-up, idempotent: Debian packages, `npm ci`, native parts. Well under a second when nothing is left to do.
 *
 * Plain JavaScript without dependencies: on a fresh clone the machine's own Node.js (18 or newer) starts it, before the
 * project's Node.js is there. Progress goes to standard error, so that a command's own output stays clean.
 */
import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** What must be there: a program (or file), and the Debian package that brings it. */
const NEEDED = [
  ["redis-server", "redis-server"],
  ["redis-cli", "redis-tools"],
  ["ip", "iproute2"],
  ["iptables", "iptables"],
  ["nft", "nftables"],
  ["nsenter", "util-linux"],
  ["mount", "mount"],
  ["openssl", "openssl"],
  ["make", "make"],
  ["gcc", "gcc"],
  ["g++", "g++"],
  ["/usr/include/stdio.h", "libc6-dev"],
];
/** With --tests; what cannot do without them is skipped where they are not. */
const NEEDED_BY_TESTS = [["etcd", "etcd-server"]];
/** With --apps: the real programs of test/apps. */
const NEEDED_BY_APPS = [
  ["memcached", "memcached"],
  ["nginx", "nginx-light"],
  ["/usr/lib/postgresql/15/bin/postgres", "postgresql-15"],
  ["/usr/bin/python3", "python3"],
  ["java", "openjdk-17-jre-headless"],
  ["/usr/share/java/ecj.jar", "libecj-java"],
  ["tmux", "tmux"],
  ["nano", "nano"],
];
/** With --bench: what is measured against, or with. */
const NEEDED_BY_BENCH = [
  ["etcd", "etcd-server"],
  ["rsync", "rsync"],
];
const needed = [
  ...NEEDED,
  ...(process.argv.includes("--tests") ? NEEDED_BY_TESTS : []),
  ...(process.argv.includes("--apps") ? NEEDED_BY_APPS : []),
  ...(process.argv.includes("--bench") ? NEEDED_BY_BENCH : []),
];
const OLDEST_KERNEL = [6, 7];
const POLICY = "/usr/sbin/policy-rc.d";
const POLICY_SAVED = `${POLICY}.understudy-saved`;
const POLICY_OURS =
  "#!/bin/sh\n# Of understudy's set-up: packages must not start services. Removed when it is done.\nexit 101\n";

class SetupError extends Error {}

const say = (line) => process.stderr.write(`set-up: ${line}\n`);

/** An npm script's PATH begins with node_modules/.bin, whose Node.js `npm ci` is about to replace. */
const ownPath = (process.env.PATH ?? "")
  .split(delimiter)
  .concat("/usr/sbin", "/sbin")
  .filter((directory) => !directory.endsWith("node_modules/.bin"))
  .join(delimiter);

function isThere(programOrFile) {
  if (programOrFile.startsWith("/")) return existsSync(programOrFile);
  return ownPath.split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, programOrFile), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Runs a command quietly, says every few seconds that it is still at it, and shows its output only when it fails. */
function run(what, command, args, environment = {}) {
  return new Promise((resolve, reject) => {
    const started = Date.now();
    const seconds = () => `${((Date.now() - started) / 1000).toFixed(0)} s`;
    say(`${what} …`);
    const env = { ...process.env, PATH: ownPath, ...environment };
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"], env });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += data));
    const ticker = setInterval(() => say(`${what} … ${seconds()}`), 5000);
    child.on("error", (error) => {
      clearInterval(ticker);
      reject(new SetupError(`${what} failed: ${error.message}`));
    });
    child.on("close", (code, signal) => {
      clearInterval(ticker);
      if (code === 0) {
        say(`${what}: done in ${seconds()}`);
        resolve();
      } else {
        // npm says it at the beginning, compilers and apt at the end.
        const lines = output.trim().split("\n");
        const end = (lines.length > 30 ? [...lines.slice(0, 14), "…", ...lines.slice(-14)] : lines).join("\n  ");
        reject(
          new SetupError(`${what} failed (${command} ${args.join(" ")}: ${signal ?? `exit code ${code}`}):\n  ${end}`),
        );
      }
    });
  });
}

function checkMachine() {
  const lacks = [];
  if (process.platform !== "linux") lacks.push(`Linux (this is ${process.platform})`);
  if (process.arch !== "x64") lacks.push(`an x86-64 processor (this is ${process.arch})`);
  const [major = 0, minor = 0] = release().split(".").map(Number);
  const old = major < OLDEST_KERNEL[0] || (major === OLDEST_KERNEL[0] && minor < OLDEST_KERNEL[1]);
  if (process.platform === "linux" && old)
    lacks.push(`Linux ${OLDEST_KERNEL.join(".")} or newer for PAGEMAP_SCAN (this is ${release()})`);
  if (process.getuid?.() !== 0) lacks.push("root (namespaces, ptrace and packet queues need it)");
  if (lacks.length > 0) throw new SetupError(`Understudy cannot work here. It needs ${lacks.join("; ")}.`);
}

/** Keeps package scripts from starting services: a redis-server of the machine's own is none of our business. */
function forbidServices() {
  if (existsSync(POLICY) && readFileSync(POLICY, "utf8") !== POLICY_OURS) renameSync(POLICY, POLICY_SAVED);
  writeFileSync(POLICY, POLICY_OURS, { mode: 0o755 });
}

/** Puts back what was there; called at the beginning too, for a set-up that was killed in the middle. */
function allowServices() {
  if (existsSync(POLICY_SAVED)) renameSync(POLICY_SAVED, POLICY);
  else if (existsSync(POLICY) && readFileSync(POLICY, "utf8") === POLICY_OURS) rmSync(POLICY);
}

async function installPackages() {
  const missing = [...new Set(needed.filter(([thing]) => !isThere(thing)).map(([, name]) => name))];
  if (missing.length === 0) return;
  if (!isThere("apt-get")) {
    throw new SetupError(`apt-get is not here to install what is missing. Install by hand: ${missing.join(", ")}.`);
  }
  const environment = { DEBIAN_FRONTEND: "noninteractive" };
  const interrupted = () => process.exit(130);
  process.on("exit", allowServices).on("SIGINT", interrupted).on("SIGTERM", interrupted);
  forbidServices();
  try {
    await run("updating the package lists", "apt-get", ["-q", "update"], environment);
    const install = ["-q", "-y", "--no-install-recommends", "install", ...missing];
    await run(`installing ${missing.join(", ")}`, "apt-get", install, environment);
  } finally {
    allowServices();
  }
  const still = needed.filter(([thing]) => !isThere(thing)).map(([thing]) => thing);
  if (still.length > 0) throw new SetupError(`Still missing after installation: ${still.join(", ")}.`);
}

const readJson = (path) => JSON.parse(readFileSync(path, "utf8"));

/** Compares the lock file with npm's own record of what it installed. */
function modulesMatch() {
  const record = join(root, "node_modules/.package-lock.json");
  if (!existsSync(record) || !existsSync(join(root, "node_modules/.bin/node"))) return false;
  const installed = readJson(record).packages;
  return Object.entries(readJson(join(root, "package-lock.json")).packages).every(([path, wanted]) => {
    if (path === "") return true;
    const found = installed[path];
    // Optional packages for other platforms are in the lock file, never on this disk.
    if (found === undefined) return wanted.optional === true;
    return found.version === wanted.version && found.integrity === wanted.integrity && existsSync(join(root, path));
  });
}

async function installModules() {
  if (modulesMatch()) return;
  if (!isThere("npm")) throw new SetupError("npm is missing. Install it, for instance with: apt-get install npm");
  await run("installing the Node.js packages (npm ci)", "npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
}

async function buildNative() {
  mkdirSync(join(root, "build"), { recursive: true });
  const upToDate = spawnSync("make", ["-q", "-C", "native"], {
    cwd: root,
    stdio: "ignore",
    env: { ...process.env, PATH: ownPath },
  });
  if (upToDate.status === 0) return;
  await run("building the native parts", "make", ["-s", "-j2", "-C", "native"]);
}

try {
  checkMachine();
  allowServices();
  await installPackages();
  await installModules();
  await buildNative();
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
}
