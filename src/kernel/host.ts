/** What this machine's kernel offers, found by trying it, and what that means for Understudy. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { release } from "node:os";
import { OperatingError } from "./failure.ts";
import { PROBES, type Probe } from "./host-probes.ts";

export interface HostFeature {
  /** Stable, kebab-case. */
  id: string;
  /** What the kernel offers, in words. */
  name: string;
  available: boolean;
  /** Why it is not available, or which kind is. */
  detail?: string;
  /** What Understudy uses it for. */
  mechanism: string;
  /** What follows for the user from its being there or not. */
  meaning: string;
  /** Nothing can be protected without it. */
  required: boolean;
}

export interface HostReport {
  kernel: string;
  architecture: string;
  /** Nothing required is missing. */
  ok: boolean;
  features: HostFeature[];
}

/** Tries everything; a few dozen milliseconds. Leaves nothing behind. */
export async function probeHost(): Promise<HostReport> {
  const sleeper = spawn("sleep", ["5"], { stdio: "ignore" });
  try {
    await once(sleeper, "spawn");
    const features = await Promise.all(PROBES.map((probe) => look(probe, sleeper)));
    const ok = features.every((feature) => feature.available || !feature.required);
    return { kernel: release(), architecture: process.arch, ok, features };
  } finally {
    sleeper.kill("SIGKILL");
  }
}

async function look(probe: Probe, sleeper: ChildProcess): Promise<HostFeature> {
  const { id, name, mechanism, required, means } = probe;
  const feature = { id, name, mechanism, required };
  try {
    const detail = await probe.try(sleeper.pid!);
    return { ...feature, available: true, meaning: means[0], ...(detail === undefined ? {} : { detail }) };
  } catch (error) {
    return { ...feature, available: false, meaning: means[1], detail: (error as Error).message };
  }
}

/**
 * Passes when nothing required is missing.
 * @throws OperatingError `host-lacks`, one message that names all that is missing
 */
export function requireHost(report: HostReport): void {
  const missing = report.features.filter((feature) => feature.required && !feature.available);
  if (missing.length === 0) return;
  const root = missing.find((feature) => feature.id === "root");
  // Without root most probes fail for that reason alone.
  const names = (root ? [root] : missing).map(({ name, detail }) => `${name} (${detail})`).join("; ");
  throw new OperatingError(
    "host-lacks",
    `This machine (Linux ${report.kernel}) lacks what Understudy needs: ${names}`,
    {
      remedy: root ? "Run it as root." : '"understudy check" shows what each is for.',
      details: { missing: missing.map(({ id }) => id) },
    },
  );
}
