// The kernel keeps the processor's number up to date in the restartable sequence's area, of every thread.
#include "program.h"
#include <pthread.h>
#include <sched.h>
#include <sys/rseq.h>

static volatile int round_, wrong, done;

static struct rseq* area(void) { return (struct rseq*)((char*)__builtin_thread_pointer() + __rseq_offset); }

static int works(void) {
  for (int i = 0; i < 100; i++) {
    int before = sched_getcpu();
    int cpu = *(volatile uint32_t*)&area()->cpu_id;
    int after = sched_getcpu();
    if (before == after && cpu != before) return 0;
    if (i % 20 == 0) sleepMs(1);
  }
  return syscall(SYS_rseq, area(), 32, 0, RSEQ_SIG) == -1 && (errno == EBUSY || errno == EINVAL || errno == EPERM);
}

static void* body(void* argument) {
  int seen = 0;
  for (;;) {
    while (round_ == seen) sleepMs(2);
    seen = round_;
    if (!works()) wrong = 1;
    done = seen;
  }
  return NULL;
}

int main(void) {
  pthread_t thread;
  check(__rseq_size > 0);
  check(!pthread_create(&thread, NULL, body, NULL));
  begin();
  for (;;) {
    next();
    round_++;
    check(works());
    while (done != round_) sleepMs(1);
    check(!wrong);
    ok();
  }
}
