/** `understudy init`: the cluster's authority and its first node. */
import type { Command } from "commander";
import { OperatingError } from "../kernel/failure.ts";
import { checkNew, filesOf, type NodeOptions, nodeOptions, tell, writeConfiguration } from "./node-files.ts";

interface Options extends NodeOptions {
  store: string;
}

export function registerInit(program: Command): void {
  nodeOptions(program.command("init").description("make a cluster: its authority, and this machine as its first node"))
    .requiredOption("--store <url>", "the cluster store: etcd://HOST:PORT,HOST:PORT or sqlite:/PATH")
    .action(init);
}

async function init(options: Options): Promise<void> {
  const { name, listen, directory, store } = options;
  if (listen === undefined) {
    throw new OperatingError("usage", "Say --listen IP: the address under which other nodes shall reach this one", {
      remedy: "See: understudy init --help",
    });
  }
  checkNew(directory);
  const { createAuthority, issueCertificate } = await import("../cluster/pki.ts");
  const { authority, tlsDirectory } = filesOf(directory);
  await createAuthority(authority);
  await issueCertificate(authority, { name, hosts: [listen], outDirectory: tlsDirectory });
  await writeConfiguration(options, listen, { store, authority });
  const next = `Then bring others in: understudy token here, understudy join TOKEN ${listen}:${options.port} there.`;
  tell(options, `"${name}" is the first node; the cluster's authority is in ${authority}: keep it safe.`, next);
}
