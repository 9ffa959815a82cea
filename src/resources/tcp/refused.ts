/** What sockets may have that a clone's could not: filters, and keys that sign each segment, which no call tells of. */
import { closeDescriptor, pidfdGetfd } from "../../kernel/calls.ts";
import { OperatingError } from "../../kernel/failure.ts";
import { KernelFields } from "../../kernel/kernel-fields.ts";
import { KernelMemory } from "../../kernel/kernel-memory.ts";
import { SO, SOL_SOCKET } from "../../kernel/socket.ts";
import { optionIndex, type TcpRecord } from "./record.ts";

const FILTER = optionIndex(SOL_SOCKET, SO.attachFilter);
/** Kernels without keys have no such field. */
const FIELDS = new KernelFields("tcp_sock.md5sig_info");

/** A socket of the application: −1 for `pidfd` means one of this process. */
interface Place {
  id: string;
  pidfd: number;
  fd: number;
}

/** By its options, as they were read last. Errors: `unprotectable-socket-filter` */
export function refuseFiltered({ id, fd }: Place, record: TcpRecord): void {
  if (record.option(FILTER) <= 0) return;
  throw new OperatingError(
    "unprotectable-socket-filter",
    `The application has a filter on the TCP socket ${id} (descriptor ${fd})`,
    { remedy: "Run it without filters on TCP sockets.", details: { id, fd } },
  );
}

/** Looks at the socket. Errors: `unprotectable-tcp-keys` */
export function refuseSigning({ id, pidfd, fd }: Place): void {
  const memory = KernelMemory.tryOpen();
  const field = memory && FIELDS.find("tcp_sock.md5sig_info");
  if (memory === undefined || field === undefined) return;
  const own = pidfd < 0 ? fd : pidfdGetfd(pidfd, fd);
  try {
    if (memory.pointer(memory.socket(own) + BigInt(field)) === 0n) return;
  } finally {
    if (pidfd >= 0) closeDescriptor(own);
  }
  throw new OperatingError(
    "unprotectable-tcp-keys",
    `The application signs what it sends on the TCP socket ${id} (descriptor ${fd}, TCP_MD5SIG), with keys that cannot be read`,
    { remedy: "Run it without signatures of TCP segments.", details: { id, fd } },
  );
}
