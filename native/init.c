// The application's init: process 1 of its namespaces. It collects orphans, and lends its context to the instance, which
// makes every other call in it from outside. Arguments: CGROUP.PROCS MONOTONIC_S MONOTONIC_NS BOOTTIME_S BOOTTIME_NS; the
// pid of process 1, as seen outside, is written to descriptor 3 as four bytes; an error as its negative errno.
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <asm/unistd.h>

static long call(long n, long a, long b, long c, long d, long e) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
  return result;
}

static long length(const char* s) {
  long n = 0;
  while (s[n]) n++;
  return n;
}

static char* append(char* to, const char* s) {
  while (*s) *to++ = *s++;
  return to;
}

static long writeFile(const char* path, const char* text) {
  long fd = call(__NR_open, (long)path, 01 /* O_WRONLY */, 0, 0, 0);
  if (fd < 0) return fd;
  long r = call(__NR_write, fd, (long)text, length(text), 0, 0);
  call(__NR_close, fd, 0, 0, 0, 0);
  return r;
}

static void report(int value) {
  call(__NR_write, 3, (long)&value, 4, 0, 0);
}

// io_uring keeps what it does in places that nobody can copy, and io_setup's requests write to memory that the device has been given
// before, where no watch sees it. To the application and all its children neither is there, and programs fall back to what they
// do on other kernels; the tracer is told who asked, to name it when one does not fall back. A
// debugger's calls fail, for its victims have a tracer already; it is told of them, so that the debugger can be refused by name.
static long filterCalls(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),  // the number
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_ptrace, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 0x5553 /* see src/tree/tracees.ts */),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 0x5552 /* likewise; without a tracer: ENOSYS */),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 0x5551 /* likewise */),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, __NR_io_uring_setup, 0, 2),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, __NR_io_uring_setup + 2, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 38 /* ENOSYS */),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  return call(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, (long)&program, 0, 0);
}

static long enter(char** argv) {
  long r = writeFile(argv[1], "0");
  if (r < 0) return r;
  r = filterCalls();
  if (r < 0) return r;
  r = call(__NR_unshare, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWTIME | CLONE_NEWCGROUP,
           0, 0, 0, 0);
  if (r < 0) return r;
  char offsets[128];
  char* p = append(offsets, "monotonic ");
  p = append(append(append(p, argv[2]), " "), argv[3]);
  p = append(p, "\nboottime ");
  p = append(append(append(p, argv[4]), " "), argv[5]);
  *append(p, "\n") = 0;
  return writeFile("/proc/self/timens_offsets", offsets);
}

int run(long argc, char** argv) {
  long r = argc == 6 ? enter(argv) : -22;
  if (r < 0) {
    report((int)r);
    return 1;
  }
  call(__NR_setsid, 0, 0, 0, 0, 0);
  long child = call(__NR_clone, 17 /* SIGCHLD */, 0, 0, 0, 0);
  if (child != 0) {
    report((int)child);
    return child < 0;
  }
  call(__NR_close, 3, 0, 0, 0, 0);
  unsigned long all = ~0ul, childSignal = 1ul << (17 - 1);
  call(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)&all, 0, 8, 0);
  for (;;) {
    call(__NR_rt_sigtimedwait, (long)&childSignal, 0, 0, 8, 0);
    while (call(__NR_wait4, -1, 0, 1 /* WNOHANG */, 0, 0) > 0) continue;
  }
}

__asm__(
    ".globl _start\n_start:\n"
    "  mov (%rsp), %rdi\n"
    "  lea 8(%rsp), %rsi\n"
    "  and $-16, %rsp\n"
    "  call run\n"
    "  mov %eax, %edi\n"
    "  mov $60, %eax\n"
    "  syscall\n");
