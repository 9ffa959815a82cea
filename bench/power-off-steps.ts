/** Where the time of a take-over after a power-off went: as the new primary tells it, and what is left of the clients' silence. */
import type { AgentEvent } from "../src/agent/events.ts";
import type { Lab } from "../src/lab/lab.ts";

export interface PowerOff {
  node: string;
  /** The store's members had to elect a new leader, too. */
  storeLeader: boolean;
  /** From the last answer before to the first after, milliseconds. */
  silenceMs: number;
  worstWaitMs: number;
  /**
   * Milliseconds. `missed`: silence of the old primary's stream until it was suspected; `elected`: until the store had the new
   * term; `clone`, `role`, `threads`: until the application ran; `rest`: before, and until an answer was at a client.
   */
  steps: Record<string, number>;
}

/** @param events of the application, since the power-off */
export function stepsOf(events: AgentEvent[], silenceMs: number): Record<string, number> {
  const live = events.find(({ kind }) => kind === "went-live");
  const told = Object.entries((live?.details?.steps ?? {}) as Record<string, number>);
  const steps = told.map(([name, ms]): [string, number] => [name, Math.round(ms)]);
  const sum = steps.reduce((total, [, ms]) => total + ms, 0);
  return { ...Object.fromEntries(steps), rest: Math.round(silenceMs) - sum };
}

export function renderPowerOff({ node, storeLeader, silenceMs, worstWaitMs, steps }: PowerOff): string {
  const list = Object.entries(steps).map(([name, ms]) => `${name} ${ms}`);
  const lost = storeLeader ? `"${node}" and the store's leader` : `"${node}"`;
  return `${lost} lost power, ${silenceMs.toFixed(0)} ms (${list.join(", ")}; worst client ${worstWaitMs.toFixed(0)} ms)`;
}

/** Whether the store's member on a node leads the others. */
export async function leadsStore(lab: Lab, node: string): Promise<boolean> {
  const tls = "/etc/understudy/tls";
  const { address } = await lab.requireNode(node);
  const { code, stdout, stderr } = await lab.exec(node, [
    ...["curl", "--silent", "--show-error", "--cacert", `${tls}/ca.crt`],
    ...["--cert", `${tls}/node.crt`, "--key", `${tls}/node.key`, "--data", "{}"],
    `https://${address}:2379/v3/maintenance/status`,
  ]);
  if (code !== 0) throw new Error(`The store's member on "${node}": ${stderr}`);
  const { header, leader } = JSON.parse(stdout) as { header: { member_id: string }; leader: string };
  return header.member_id === leader;
}
