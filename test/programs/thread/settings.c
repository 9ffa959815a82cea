// What a thread has set for itself alone: user, group and capabilities, no_new_privs and filters, how urgent its reads and writes are,
// where its memory comes from, what memory errors mean to it, no time stamp counter; some of it is other in each round, changed right
// before it says so, and to be found again as it was left.
#include "program.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>

static int asks[2], answers[2];
static const int refused[2] = {SYS_getpgid, SYS_getsid};

static void refuse(int call) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {4, code};
  check(!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

// Of the kernel, not of the C library, which would do it to all threads.
static void user(int who, int round) { check(!syscall(SYS_setresuid, 1000 + who, 2000 + round % 5, 0)); }

static void is(int who, int round) {
  uid_t r, e, s;
  int policy = -1, counter = 0;
  unsigned long nodes[16] = {0};
  check(!syscall(SYS_getresuid, &r, &e, &s));
  equal(r, 1000 + who);
  equal(e, 2000 + round % 5);
  equal(s, 0);
  equal(syscall(SYS_ioprio_get, 1, 0), 2 << 13 | (round + who) % 8);
  check(!syscall(SYS_get_mempolicy, &policy, nodes, 1024, 0, 0));
  equal(policy, (round + who) % 2 ? 2 : 3);
  equal(nodes[0], 1);
  equal(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), (round + who) % 2);
  check(!prctl(PR_GET_TSC, &counter));
  equal(counter, who ? PR_TSC_SIGSEGV : PR_TSC_ENABLE);
  equal(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), who || round > 2);
  equal(prctl(PR_GET_KEEPCAPS), (round + who) % 2);
  errno = 0;
  check(syscall(refused[who], 0) < 0 && errno == 77);
  check(syscall(refused[1 - who], 0) >= 0);
}

static void become(int who, int round) {
  unsigned long node = 1;
  check(!syscall(SYS_setresuid, -1, 0, -1));
  check(!syscall(SYS_ioprio_set, 1, 0, 2 << 13 | (round + who) % 8));
  check(!syscall(SYS_set_mempolicy, (round + who) % 2 ? 2 : 3, &node, 64));
  check(!prctl(PR_MCE_KILL, PR_MCE_KILL_SET, (round + who) % 2, 0, 0));
  if (who || round > 2) check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  check(!prctl(PR_SET_KEEPCAPS, (round + who) % 2));
  user(who, round);
}

static void* other(void* unused) {
  (void)unused;
  become(1, 0);
  refuse(refused[1]);
  check(!prctl(PR_SET_TSC, PR_TSC_SIGSEGV));
  for (int round = 0;; round++) {
    char byte = 0;
    check(write(answers[1], &byte, 1) == 1);
    check(read(asks[0], &byte, 1) == 1);
    is(1, round);
    become(1, round + 1);
  }
  return NULL;
}

int main(void) {
  pthread_t thread;
  char byte = 0;
  check(!pipe(asks) && !pipe(answers));
  check(!pthread_create(&thread, NULL, other, NULL));
  check(read(answers[0], &byte, 1) == 1);
  refuse(refused[0]);
  become(0, 0);
  begin();
  for (int round = 0;; round++) {
    next();
    is(0, round);
    check(write(asks[1], &byte, 1) == 1 && read(answers[0], &byte, 1) == 1);
    become(0, round + 1);
    ok();
  }
}
