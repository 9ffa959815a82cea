/** System call numbers (x86-64) and constants of the kernel's interface that Node.js does not have. */

export const NR = {
  read: 0,
  write: 1,
  open: 2,
  close: 3,
  lseek: 8,
  mmap: 9,
  mprotect: 10,
  munmap: 11,
  rt_sigaction: 13,
  rt_sigprocmask: 14,
  ioctl: 16,
  pread64: 17,
  mremap: 25,
  madvise: 28,
  dup2: 33,
  mincore: 27,
  shmget: 29,
  shmat: 30,
  shmctl: 31,
  getitimer: 36,
  setitimer: 38,
  getpid: 39,
  fork: 57,
  execve: 59,
  exit: 60,
  wait4: 61,
  kill: 62,
  semget: 64,
  semop: 65,
  semctl: 66,
  shmdt: 67,
  msgget: 68,
  msgsnd: 69,
  msgrcv: 70,
  msgctl: 71,
  fcntl: 72,
  chdir: 80,
  umask: 95,
  ptrace: 101,
  setuid: 105,
  setgid: 106,
  setpgid: 109,
  setsid: 112,
  setgroups: 116,
  setresuid: 117,
  setresgid: 119,
  getsid: 124,
  sigaltstack: 131,
  personality: 135,
  sched_setscheduler: 144,
  prctl: 157,
  chroot: 161,
  mount: 165,
  umount2: 166,
  sethostname: 170,
  pivot_root: 155,
  capset: 126,
  futex: 202,
  set_tid_address: 218,
  epoll_ctl: 233,
  tgkill: 234,
  openat: 257,
  set_robust_list: 273,
  get_robust_list: 274,
  tee: 276,
  timerfd_create: 283,
  timerfd_settime: 286,
  eventfd2: 290,
  epoll_create1: 291,
  dup3: 292,
  pipe2: 293,
  prlimit64: 302,
  setns: 308,
  kcmp: 312,
  process_vm_readv: 310,
  process_vm_writev: 311,
  userfaultfd: 323,
  rseq: 334,
  pidfd_open: 434,
  clone3: 435,
  openat2: 437,
  pidfd_getfd: 438,
  pwrite64: 18,
  ftruncate: 77,
  fchmod: 91,
  setxattr: 188,
  getxattr: 191,
  listxattr: 194,
  removexattr: 197,
  getdents64: 217,
  mkdirat: 258,
  mknodat: 259,
  fchownat: 260,
  unlinkat: 263,
  renameat: 264,
  renameat2: 316,
  linkat: 265,
  symlinkat: 266,
  readlinkat: 267,
  fchmodat: 268,
  utimensat: 280,
  fallocate: 285,
  statx: 332,
  open_tree: 428,
  unshare: 272,
  fdatasync: 75,
  syncfs: 306,
  socket: 41,
  connect: 42,
  sendmsg: 46,
  recvmsg: 47,
  shutdown: 48,
  bind: 49,
  listen: 50,
  getsockname: 51,
  getpeername: 52,
  socketpair: 53,
  setsockopt: 54,
  getsockopt: 55,
  unlink: 87,
  chmod: 90,
  chown: 92,
  flock: 73,
  accept4: 288,
  signalfd4: 289,
  inotify_init1: 294,
  inotify_add_watch: 254,
  memfd_create: 319,
} as const;

export const PROT = { none: 0, read: 1, write: 2, exec: 4 } as const;

export const MAP = {
  shared: 1,
  private: 2,
  fixed: 0x10,
  anonymous: 0x20,
  growsDown: 0x100,
  noReserve: 0x4000,
  stack: 0x20000,
  fixedNoReplace: 0x100000,
} as const;

export const MREMAP_MAYMOVE_FIXED = 3;
export const MADV_DONTNEED = 4;

export const PTRACE = {
  cont: 7,
  kill: 8,
  detach: 17,
  setOptions: 0x4200,
  getEventMessage: 0x4201,
  getSigInfo: 0x4202,
  seize: 0x4206,
  interrupt: 0x4207,
  listen: 0x4208,
  getSigMask: 0x420a,
  setSigMask: 0x420b,
  getRseqConfiguration: 0x420f,
} as const;

/** Options for PTRACE_SEIZE. */
export const TRACE_OPTION = {
  sysGood: 1,
  fork: 2,
  vfork: 4,
  clone: 8,
  exec: 16,
  exit: 64,
  exitKill: 0x100000,
} as const;

/** status >> 16 of a ptrace event stop. */
export const TRACE_EVENT = { fork: 1, vfork: 2, clone: 3, exec: 4, exit: 6, stop: 128 } as const;

export const CLONE = {
  vm: 0x100,
  fs: 0x200,
  files: 0x400,
  sighand: 0x800,
  thread: 0x10000,
  sysvsem: 0x40000,
  newNet: 0x40000000,
} as const;

export const SIGNAL = { kill: 9, trap: 5, chld: 17, stop: 19 } as const;

/** Bits of a page's categories in PAGEMAP_SCAN (kernel 6.7, include/uapi/linux/fs.h). */
export const PAGE_IS = { wpAllowed: 1, written: 2, file: 4, present: 8, swapped: 16, pfnZero: 32, huge: 64 } as const;
export const PM_SCAN = { wpMatching: 1, checkWpAsync: 2 } as const;

/** Errors of the kernel that never leave it: what an interrupted call left in rax. */
export const RESTART = { sys: -512, noIntr: -513, noHand: -514, block: -516 } as const;

export const ERRNO = { perm: -1, srch: -3, intr: -4, child: -10, again: -11, invalid: -22, noSpace: -28 } as const;

export const PAGE_BYTES = 4096;
export const USER_SPACE_END = 0x7ffffffff000;
/** mmap_min_addr as distributions set it. */
export const USER_SPACE_BEGIN = 0x10000;
