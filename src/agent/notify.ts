/** Tells systemd (Type=notify) that the agent is ready, over the datagram socket of sd_notify(3). */

/** Does nothing when no service manager asked to be told. A failure is not worth ending for. */
export async function notifyServiceManager(state: string): Promise<void> {
  const path = process.env.NOTIFY_SOCKET;
  if (path === undefined || path === "") return;
  // Loaded only here: an agent that nobody waits for does not need the addon to start.
  const { sendDatagram } = await import("../kernel/datagram.ts");
  sendDatagram(path, state);
}
