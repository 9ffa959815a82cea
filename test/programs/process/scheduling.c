// Scheduling policy and affinity of each thread, securebits, personality, subreaper, out-of-memory adjustment; io_uring is not
// there.
#include "program.h"
#include <pthread.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static volatile int threadAsked, threadDone;

static void* batch(void* unused) {
  struct sched_param none = {0};
  cpu_set_t one, now;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  check(!sched_setaffinity(0, sizeof one, &one));
  check(!sched_setscheduler(0, SCHED_BATCH, &none));
  check(!setpriority(PRIO_PROCESS, gettid(), 7));
  threadDone = -1;
  for (;;) {
    while (threadAsked == threadDone || threadDone < 0) {
      sleepMs(1);
      if (threadAsked && threadDone < 0) threadDone = 0;
    }
    check(!sched_getaffinity(0, sizeof now, &now));
    check(CPU_EQUAL(&one, &now));
    equal(sched_getscheduler(0), SCHED_BATCH);
    equal(getpriority(PRIO_PROCESS, gettid()), 7);
    threadDone = threadAsked;
  }
}

int main(void) {
  struct sched_param none = {0}, low = {3};
  cpu_set_t all, now;
  check(!sched_getaffinity(0, sizeof all, &all));
  pthread_t thread;
  check(!pthread_create(&thread, NULL, batch, NULL));
  while (!threadDone) sleepMs(1);
  int realtime = !sched_setscheduler(0, SCHED_RR, &low);
  if (!realtime) check(!sched_setscheduler(0, SCHED_IDLE, &none));
  check(!prctl(PR_SET_CHILD_SUBREAPER, 1));
  check(!prctl(PR_SET_SECUREBITS, 0x2f));
  check(personality(ADDR_NO_RANDOMIZE | UNAME26) >= 0);
  int fd = open("/proc/self/oom_score_adj", O_WRONLY);
  check(fd >= 0 && write(fd, "321", 3) == 3);
  close(fd);
  begin();
  for (int round = 1;; round++) {
    next();
    equal(sched_getscheduler(0), realtime ? SCHED_RR : SCHED_IDLE);
    if (realtime) {
      check(!sched_getparam(0, &none));
      equal(none.sched_priority, 3);
    }
    check(!sched_getaffinity(0, sizeof now, &now));
    check(CPU_EQUAL(&all, &now));
    int reaper;
    check(!prctl(PR_GET_CHILD_SUBREAPER, &reaper));
    equal(reaper, 1);
    equal(prctl(PR_GET_SECUREBITS), 0x2f);
    equal(personality(0xffffffff), ADDR_NO_RANDOMIZE | UNAME26);
    char text[16] = {0};
    fd = open("/proc/self/oom_score_adj", O_RDONLY);
    check(read(fd, text, sizeof text) > 0);
    equal(atoi(text), 321);
    close(fd);
    equal(syscall(425 /* io_uring_setup */, 8, NULL), -1);
    equal(errno, ENOSYS);
    threadAsked = round;
    for (int i = 0; threadDone != round; i++) {
      if (i > 1000) fail("the thread does not answer");
      sleepMs(1);
    }
    ok();
  }
}
