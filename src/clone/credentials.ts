/** Gives a clone's thread the user, groups and capabilities of the application's; until then it has those of the init. */
import type { Remote, RemoteCall } from "../kernel/remote.ts";
import type { Credentials } from "../resources/process/state.ts";

const PR_CAPBSET_DROP = 24;
const PR_SET_SECUREBITS = 28;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_RAISE = 2;
/** Capabilities stay as they are while the user changes. */
const SECBIT_NO_SETUID_FIXUP = 4;
const CAPABILITY_VERSION_3 = 0x20080522;
const CAPABILITIES = 41;

function isSet(mask: string, capability: number): boolean {
  return ((BigInt(`0x${mask || "0"}`) >> BigInt(capability)) & 1n) === 1n;
}

/** struct __user_cap_data_struct[2] */
function capabilityData({ effective, permitted, inheritable }: Credentials): Buffer {
  const data = Buffer.alloc(24);
  [effective, permitted, inheritable].forEach((mask, i) => {
    const value = BigInt(`0x${mask || "0"}`);
    data.writeUInt32LE(Number(value & 0xffffffffn), 4 * i);
    data.writeUInt32LE(Number(value >> 32n), 12 + 4 * i);
  });
  return data;
}

/** Errors: SystemCallError where this node's init may less than the application could (a user namespace of less rights). */
export function restoreCredentials(remote: Remote, credentials: Credentials, securebits: number): void {
  const { uids, gids, groups, bounding, ambient, noNewPrivileges } = credentials;
  remote.reset();
  const all = Array.from({ length: CAPABILITIES }, (_, i) => i);
  const drops = all.filter((capability) => !isSet(bounding, capability));
  for (const capability of drops) remote.tryCall("prctl", PR_CAPBSET_DROP, capability);
  const calls: RemoteCall[] = [["prctl", PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP]];
  remote.batchChecked(calls);
  const list = Buffer.alloc(4 * Math.max(1, groups.length));
  groups.forEach((group, i) => list.writeUInt32LE(group, 4 * i));
  remote.call("setgroups", groups.length, remote.put(list));
  remote.call("setresgid", gids[0]!, gids[1]!, gids[2]!);
  remote.call("setresuid", uids[0]!, uids[1]!, uids[2]!);
  remote.tryCall("setfsgid", gids[3]!);
  remote.tryCall("setfsuid", uids[3]!);
  remote.batchChecked([["prctl", PR_SET_SECUREBITS, securebits]]);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(CAPABILITY_VERSION_3);
  remote.call("capset", remote.put(head), remote.put(capabilityData(credentials)));
  for (const capability of all)
    if (isSet(ambient, capability)) remote.call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0);
  if (noNewPrivileges) remote.call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}
