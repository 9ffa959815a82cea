/** `understudy lab …`: a cluster of nodes on this machine. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type Command, InvalidArgumentError } from "commander";
import { exitCode } from "../lab/command.ts";
import { defaultLab, labsUp } from "../lab/find.ts";
import { Lab, type LabStatus } from "../lab/lab.ts";
import { table } from "./table.ts";

interface NameOption {
  name?: string;
}
interface OutputOption {
  json?: boolean;
}

type UpCommand = NameOption & OutputOption & { nodes: number; store: string; replace?: boolean };

const say = (text: string) => process.stderr.write(`${text}\n`);

/** Adds the `lab` commands. Errors are thrown: the caller prints them. */
export function registerLab(program: Command): void {
  const lab = program.command("lab").description("a cluster on this machine, to try things and to test");
  const command = (name: string, description: string) =>
    lab
      .command(name)
      .description(description)
      .option("--name <lab>", "which lab (default: the one that is up, or lab)");

  command("up", "make nodes and a client host, and start the agents")
    .option("--nodes <count>", "how many nodes, 1 to 9", wholeNumber, 3)
    .option("--store <store>", "sqlite, etcd (members on the nodes), or etcd://host:port,… that runs already", "sqlite")
    .option("--replace", "take down a lab of this name first")
    .option("--json", "print the lab as JSON")
    .action((options: UpCommand) => up(options));

  command("down", "remove the lab and everything of it").action(async (options: NameOption) => {
    const target = open(options);
    await target.down();
    say(`The lab "${target.name}" is gone.`);
  });

  command("status", "nodes, their power and agents, cut links")
    .option("--json", "print it as JSON")
    .action(async (options: NameOption & OutputOption) => print(await open(options).status(), options));

  command("list", "the labs that are up")
    .option("--json", "print them as JSON")
    .action(async ({ json }: OutputOption) => {
      const labs = await Promise.all(labsUp().map((name) => new Lab({ name }).status()));
      if (json) process.stdout.write(`${JSON.stringify({ labs }, null, 2)}\n`);
      else
        process.stdout.write(
          table(
            ["lab", "nodes"],
            labs.map(({ name, nodes }) => [name, String(nodes.length)]),
          ),
        );
    });

  command("power-off <node>", "kill everything of a node in one instant").action(
    async (node: string, options: NameOption) => {
      await open(options).powerOff(node);
      say(`"${node}" is off.`);
    },
  );

  command("power-on <node>", "start a node again with the disk it had").action(
    async (node: string, options: NameOption) => {
      await open(options).powerOn(node);
      say(`"${node}" is on, and its agent answers.`);
    },
  );

  command("store-off <node>", "end a node's member of the lab's etcd").action(
    async (node: string, options: NameOption) => {
      await open(options).storeOff(node);
      say(`The member of the cluster store on "${node}" is off.`);
    },
  );

  command("store-on <node>", "start a node's member of the lab's etcd again").action(
    async (node: string, options: NameOption) => {
      await open(options).storeOn(node);
      say(`The member of the cluster store on "${node}" is started.`);
    },
  );

  command("cut <from> <to>", 'drop what goes between two hosts (nodes or "client")')
    .option("--one-way", "only from the first to the second")
    .action(async (from: string, to: string, options: NameOption & { oneWay?: boolean }) => {
      await open(options).cut(from, to, options);
      say(
        options.oneWay
          ? `What "${from}" sends to "${to}" is dropped.`
          : `"${from}" and "${to}" are cut off from each other.`,
      );
    });

  command("heal [from] [to]", "undo cuts: between two hosts, or all")
    .option("--one-way", "only from the first to the second")
    .action(async (from: string | undefined, to: string | undefined, options: NameOption & { oneWay?: boolean }) => {
      if (from !== undefined && to === undefined) lab.error(`error: heal takes two hosts, or none`, { exitCode: 2 });
      await open(options).heal(from, to, options);
      say(from === undefined ? "All links are whole." : `The link between "${from}" and "${to}" is whole.`);
    });

  command("exec <node> <command...>", "run a command on a node: lab exec node-a -- ip address").action(
    async (node: string, argv: string[], options: NameOption) => {
      const child = await open(options).spawn(node, argv, { stdio: "inherit" });
      await follow(child);
    },
  );

  command("client <command...>", "run a command on the client host: lab client -- redis-cli -h 10.77.0.10 ping").action(
    async (argv: string[], options: NameOption) => {
      const child = await open(options).spawnInClient(argv, { stdio: "inherit" });
      await follow(child);
    },
  );

  command("log <node>", "what the node's agent has printed")
    .option("-f, --follow", "go on as more comes")
    .action(async (node: string, options: NameOption & { follow?: boolean }) => {
      const path = await open(options)
        .requireNode(node)
        .then(({ log }) => log);
      await follow(spawn("tail", ["-n", "+1", ...(options.follow ? ["-F"] : []), path], { stdio: "inherit" }));
    });
}

const open = ({ name }: NameOption) => new Lab({ name: name ?? defaultLab() });

async function up(options: UpCommand): Promise<void> {
  const lab = new Lab({ name: options.name ?? "lab" });
  const interrupted = () => void lab.down().catch(() => {});
  process.on("SIGINT", interrupted).on("SIGTERM", interrupted);
  try {
    const { nodes, store, replace = false } = options;
    await lab.up({ nodes, store, replace, onProgress: (what) => say(`lab "${lab.name}": ${what}`) });
  } finally {
    process.off("SIGINT", interrupted).off("SIGTERM", interrupted);
  }
  print(await lab.status(), options);
}

function print(status: LabStatus, { json }: OutputOption): void {
  if (json) {
    process.stdout.write(`${JSON.stringify(status, null, 2)}\n`);
    return;
  }
  if (!status.up) {
    process.stdout.write(`The lab "${status.name}" is not up.\n`);
    return;
  }
  const cutOf = (name: string) =>
    status.cuts
      .filter(({ from }) => from === name)
      .map(({ to }) => `cut to ${to}`)
      .join(", ");
  const nodes = status.nodes.map(({ name, address, power, agent }) => [name, address, power, agent, cutOf(name)]);
  const rows = [...nodes, ["client", status.client.address, "", "", cutOf("client")]];
  process.stdout.write(table(["host", "address", "power", "agent", "links"], rows));
}

/** Our exit code is the command's. What is typed at the terminal reaches it by itself; other signals are passed on. */
async function follow(child: ReturnType<typeof spawn>): Promise<void> {
  const ignore = () => {};
  const pass = () => child.kill("SIGTERM");
  process.on("SIGINT", ignore).on("SIGTERM", pass);
  const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
  process.off("SIGINT", ignore).off("SIGTERM", pass);
  process.exitCode = exitCode(code, signal);
}

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("Give a whole number.");
  return Number(text);
}
