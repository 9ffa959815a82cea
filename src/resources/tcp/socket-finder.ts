/** Where in the kernel's memory a TCP connection is: a traffic program may look one up by its addresses, and keep the answer. */
import {
  createValueMap,
  type Instruction,
  loadMapValue,
  loadTrafficProgram,
  readMap,
  runTrafficProgram,
  writeMap,
} from "../../kernel/bpf.ts";
import { closeDescriptor } from "../../kernel/calls.ts";
import { AF_INET } from "../../kernel/socket.ts";
import { address4, isMapped } from "./inject.ts";

const HELPER = { release: 86, lookUpTcp: 99 } as const;
const TUPLE_AT = 16;
const VALUE_BYTES = 56;
const TUPLE_BYTES = { v4: 12, v6: 36 } as const;

/** Value: {address found, bytes of the tuple, the tuple: remote address, local address, ports}. */
function program(mapFd: number): Instruction[] {
  const lookUp = (bytes: number): Instruction[] => [
    [0xb7, 3, 0, 0, bytes],
    [0xb7, 4, 0, 0, -1],
    [0xb7, 5, 0, 0, 0],
    [0x85, 0, 0, 0, HELPER.lookUpTcp],
  ];
  return [
    [0xbf, 7, 1, 0, 0],
    ...loadMapValue(6, mapFd),
    [0xbf, 2, 6, 0, 0],
    [0x07, 2, 0, 0, TUPLE_AT],
    [0x79, 8, 6, 8, 0],
    [0xbf, 1, 7, 0, 0],
    [0x15, 8, 0, 5, TUPLE_BYTES.v6],
    ...lookUp(TUPLE_BYTES.v4),
    [0x05, 0, 0, 4, 0],
    ...lookUp(TUPLE_BYTES.v6),
    [0x7b, 6, 0, 0, 0],
    [0x15, 0, 0, 2, 0],
    [0xbf, 1, 0, 0, 0],
    [0x85, 0, 0, 0, HELPER.release],
    [0xb7, 0, 0, 0, 0],
    [0x95, 0, 0, 0, 0],
  ];
}

export class SocketFinder {
  readonly #mapFd = createValueMap(VALUE_BYTES);
  readonly #programFd: number;
  readonly #key = Buffer.alloc(4);

  constructor() {
    try {
      this.#programFd = loadTrafficProgram("understudy_find", program(this.#mapFd));
    } catch (error) {
      closeDescriptor(this.#mapFd);
      throw error;
    }
  }

  /**
   * Looks in the calling thread's network namespace; 0 when there is none. Nothing keeps it there.
   * @param local sockaddr
   */
  find(family: number, local: Buffer, remote: Buffer): bigint {
    const v4 = family === AF_INET || isMapped(remote);
    const value = Buffer.alloc(VALUE_BYTES);
    const addressBytes = v4 ? 4 : 16;
    const address = (from: Buffer) => (v4 ? address4(from) : from.subarray(8, 24));
    value.writeBigUInt64LE(BigInt(v4 ? TUPLE_BYTES.v4 : TUPLE_BYTES.v6), 8);
    address(remote).copy(value, TUPLE_AT);
    address(local).copy(value, TUPLE_AT + addressBytes);
    remote.copy(value, TUPLE_AT + 2 * addressBytes, 2, 4);
    local.copy(value, TUPLE_AT + 2 * addressBytes + 2, 2, 4);
    writeMap(this.#mapFd, this.#key, value);
    runTrafficProgram(this.#programFd);
    readMap(this.#mapFd, this.#key, value);
    return value.readBigUInt64LE(0);
  }

  close(): void {
    closeDescriptor(this.#programFd);
    closeDescriptor(this.#mapFd);
  }
}
