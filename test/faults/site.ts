/** A lab for faults: three nodes and a Redis with two standbys. */
import { Lab } from "../../src/lab/lab.ts";
import { giveDisks, takeDisks } from "./disks.ts";
import { FaultRun, NODES, type Options } from "./run.ts";

export interface FaultSite extends AsyncDisposable {
  run: FaultRun;
}

export interface SiteOptions {
  name: string;
  store: "sqlite" | "etcd";
  /** Disks of the nodes' own are made only where one is to be filled. */
  disks: boolean;
}

export async function openFaultSite({ name, store, disks }: SiteOptions, options: Options): Promise<FaultSite> {
  const lab = new Lab({ name });
  const close = async () => {
    if (disks) takeDisks(lab, NODES);
    await lab.down();
  };
  try {
    await lab.up({ nodes: NODES.length, store, onProgress: options.say });
    if (disks) await giveDisks(lab, NODES);
    const run = new FaultRun(lab, options);
    await run.begin();
    return { run, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}
