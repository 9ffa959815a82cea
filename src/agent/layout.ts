/** Where everything of this node stands. */
import { join } from "node:path";
import type { AgentConfig } from "./config.ts";

export interface Layout {
  agentSocket: string;
  auditFile: string;
  /** cgroup of the instances' own processes. */
  instancesCgroup: string;
  applicationCgroup(application: string): string;
  /** Of a health probe's command. */
  probeCgroup(application: string): string;
  /** Of one application on this node; on a real file system. */
  stateDirectory(application: string): string;
  /** What the application has created or changed in its files. */
  filesDirectory(application: string): string;
  applicationsDirectory: string;
  /** Files of earlier clones that the next one can take its content from (files/kept.ts), by application. */
  keptDirectory(application: string): string;
  instanceLog(application: string): string;
  /** A failed instance may leave its `Failure` here before it ends. */
  failureFile(application: string): string;
  /** There while a `protect` is under way, so that a restarted agent undoes what is half done. */
  protectMarker(application: string): string;
  instanceConfig(application: string): string;
  /** Compiled sources of instances: with them one starts in a third of the time. */
  compileCache: string;
  /** Process id and start time of the instance. */
  instanceFile(application: string): string;
  controlSocket(application: string): string;
}

export const suffixes = {
  instanceFile: ".instance.json",
  protectMarker: ".protecting.json",
  run: [".instance.json", ".config.json", ".pid.json", ".sock"],
} as const;

export function layoutOf(config: AgentConfig, cgroup: string): Layout {
  const { runDirectory: run, stateDirectory: state } = config;
  const applications = join(state, "applications");
  return {
    agentSocket: join(run, "agent.sock"),
    auditFile: join(state, "audit", "audit.jsonl"),
    instancesCgroup: join(cgroup, "instances"),
    applicationCgroup: (application) => join(cgroup, "apps", application),
    probeCgroup: (application) => join(cgroup, "probes", application),
    applicationsDirectory: applications,
    compileCache: join(state, "compile-cache"),
    stateDirectory: (application) => join(applications, application),
    filesDirectory: (application) => join(applications, application, "files"),
    keptDirectory: (application) => join(state, "kept", application),
    instanceLog: (application) => join(applications, application, "instance.log"),
    failureFile: (application) => join(applications, application, "failure.json"),
    protectMarker: (application) => join(applications, `${application}${suffixes.protectMarker}`),
    instanceConfig: (application) => join(run, `${application}.config.json`),
    instanceFile: (application) => join(run, `${application}${suffixes.instanceFile}`),
    controlSocket: (application) => join(run, `${application}.sock`),
  };
}
