/**
 * AMX: eight registers of 1 KiB, which a process must ask for (arch_prctl(2), Linux 5.16) and of which the kernel keeps room for a
 * thread from its first use on only. See Documentation/arch/x86/xstate.rst.
 */
import { tryCall } from "../../kernel/calls.ts";
import type { Remote, RemoteCall } from "../../kernel/remote.ts";
import { usesTiles } from "../../kernel/trace.ts";

const ARCH_GET_XCOMP_SUPP = 0x1021;
const ARCH_GET_XCOMP_PERM = 0x1022;
const ARCH_REQ_XCOMP_PERM = 0x1023;
const TILE_DATA = 18;

/** Uses a tile for the first time, with the configuration at rdi: ldtilecfg [rdi]; tilezero tmm0; tilerelease; syscall. */
// biome-ignore format: one instruction a line
const FIRST_USE = Buffer.from([
  0xc4, 0xe2, 0x78, 0x49, 0x07,
  0xc4, 0xe2, 0x7b, 0x49, 0xc0,
  0xc4, 0xe2, 0x78, 0x49, 0xc0,
  0x0f, 0x05,
]);

/** One row of four bytes in tmm0, palette 1. */
const SMALLEST = Buffer.alloc(64);
SMALLEST[0] = 1;
SMALLEST[16] = 4;
SMALLEST[48] = 1;

function has(word: Buffer): boolean {
  return ((word.readBigUInt64LE() >> BigInt(TILE_DATA)) & 1n) === 1n;
}

const word = Buffer.alloc(8);
let known: boolean | undefined;

/** Whether processor and kernel have them. */
function areThere(): boolean {
  known ??= tryCall("arch_prctl", ARCH_GET_XCOMP_SUPP, word) === 0 && has(word);
  return known;
}

/** Whether the process has asked for them. `at`: eight bytes of its memory, `remote` has begun in it. */
export function readTilesPermitted(remote: Remote, at: number): boolean {
  return areThere() && remote.tryCall("arch_prctl", ARCH_GET_XCOMP_PERM, at) === 0 && has(remote.read(at, 8));
}

/** Before any of its threads has an alternate stack: who has too small a one may not ask. */
export function permitTiles(permitted: boolean): RemoteCall[] {
  return permitted ? [["arch_prctl", ARCH_REQ_XCOMP_PERM, TILE_DATA]] : [];
}

/** The kernel takes tiles for a thread only when it has used some itself. */
export function useTilesFirst(remote: Remote, record: Buffer): void {
  if (!usesTiles(record)) return;
  const { gadget } = remote;
  const configuration = remote.put(SMALLEST);
  remote.gadget = remote.put(FIRST_USE);
  remote.call("getpid", configuration);
  remote.gadget = gadget;
}
