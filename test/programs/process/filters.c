// Seccomp filters: two of them on all threads, one of which ends the process at calls that a checkpoint makes in it.
#include "program.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>

static void filter(int number, uint32_t verdict) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, verdict),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {4, code};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program)) fail("seccomp");
}

static volatile int asked_, done;

static void* thread(void* unused) {
  for (;;) {
    if (asked_ != done) {
      equal(syscall(SYS_getppid), -1);
      equal(errno, 99);
      done = asked_;
    }
    sleepMs(1);
  }
}

int main(void) {
  pthread_t t;
  check(!pthread_create(&t, NULL, thread, NULL));
  check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  filter(SYS_getppid, SECCOMP_RET_ERRNO | 99);
  filter(SYS_getitimer, SECCOMP_RET_KILL_PROCESS);
  filter(SYS_sigaltstack, SECCOMP_RET_KILL_PROCESS);
  begin();
  for (;;) {
    next();
    equal(syscall(SYS_getppid), -1);
    equal(errno, 99);
    asked_++;
    for (int i = 0; done != asked_; i++) {
      if (i > 1000) fail("the thread does not answer");
      sleepMs(1);
    }
    pid_t child = vfork();
    if (child == 0) {
      syscall(SYS_getitimer, 0, NULL);
      _exit(0);
    }
    int status;
    check(waitpid(child, &status, 0) == child);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    ok();
  }
}
