/** Is there somebody on the node's network under this address? The kernel's own neighbour discovery answers. */
import { execFile } from "node:child_process";
import { createSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);
/** On a local network an answer takes less than a millisecond; a busy machine gets a little more. */
const ANSWER_WAIT_MS = 250;
const POLL_MS = 10;
const DISCARD_PORT = 9;
/** /proc/net/arp: the entry is complete. */
const ATF_COM = 0x2;

/** False too when the bridge does not exist, for then there is no network to ask. */
export async function addressAnswers(address: string, bridge: string): Promise<boolean> {
  if (networkInterfaces()[bridge] === undefined) return false;
  // What was learnt before may be of an application that has ended.
  await run("ip", ["neighbour", "delete", address, "dev", bridge]).catch(() => {});
  const socket = createSocket("udp4");
  try {
    // Any packet makes the kernel ask who has the address; it need not arrive.
    await new Promise<void>((resolve) => socket.send("", DISCARD_PORT, address, () => resolve()));
    for (let waitedMs = 0; waitedMs < ANSWER_WAIT_MS; waitedMs += POLL_MS) {
      await sleep(POLL_MS);
      if (isComplete(address, bridge)) return true;
    }
    return false;
  } finally {
    socket.close();
  }
}

function isComplete(address: string, bridge: string): boolean {
  return readFileSync("/proc/self/net/arp", "utf8")
    .split("\n")
    .some((line) => {
      const [ip, , flags, , , device] = line.split(/\s+/);
      return ip === address && device === bridge && (Number(flags) & ATF_COM) !== 0;
    });
}
