// POSIX timers: identifiers with gaps, one that ticks, one far away whose rest goes down, one that stands still, one for a
// thread, and what their signals carry.
#include "program.h"
#include <pthread.h>

static volatile int ticks, threadTicks;
static volatile pid_t ticked;

static void tick(int s, siginfo_t* i, void* c) {
  if (i->si_code == SI_TIMER && i->si_value.sival_int == 77) ticks++;
}
static void threadTick(int s, siginfo_t* i, void* c) {
  ticked = gettid();
  threadTicks++;
}

static pid_t threadId;
static void* thread(void* unused) {
  threadId = gettid();
  for (;;) pause();
  return unused;
}

static timer_t make(int notify, int signal, int value, pid_t target) {
  struct sigevent e = {0};
  int id;
  e.sigev_notify = notify;
  e.sigev_signo = signal;
  e.sigev_value.sival_int = value;
  e._sigev_un._tid = target;
  check(!syscall(SYS_timer_create, CLOCK_MONOTONIC, &e, &id));
  return (timer_t)(long)id;
}

static int setTimer(timer_t id, struct itimerspec* value) { return syscall(SYS_timer_settime, (int)(long)id, 0, value, NULL); }
static int getTimer(timer_t id, struct itimerspec* value) { return syscall(SYS_timer_gettime, (int)(long)id, value); }

int main(void) {
  struct sigaction a = {.sa_sigaction = tick, .sa_flags = SA_SIGINFO | SA_RESTART}, b = a;
  b.sa_sigaction = threadTick;
  sigaction(SIGRTMIN + 1, &a, NULL);
  sigaction(SIGRTMIN + 2, &b, NULL);
  pthread_t t;
  check(!pthread_create(&t, NULL, thread, NULL));
  while (!threadId) sleepMs(1);
  timer_t gap = make(SIGEV_NONE, 0, 0, 0);
  timer_t ticking = make(SIGEV_SIGNAL, SIGRTMIN + 1, 77, 0), far = make(SIGEV_NONE, 0, 0, 0);
  check(!syscall(SYS_timer_delete, (int)(long)gap));
  timer_t still = make(SIGEV_SIGNAL, SIGRTMIN + 1, 78, 0), own = make(SIGEV_THREAD_ID, SIGRTMIN + 2, 1, threadId);
  check(!setTimer(ticking, &(struct itimerspec){{0, 20000000}, {0, 20000000}}));
  check(!setTimer(own, &(struct itimerspec){{0, 20000000}, {0, 20000000}}));
  check(!setTimer(far, &(struct itimerspec){{0, 0}, {1000, 0}}));
  uint64_t begun = nowMs();
  begin();
  for (;;) {
    next();
    struct itimerspec now;
    check(!getTimer(ticking, &now));
    equal(now.it_interval.tv_nsec, 20000000);
    // It may stand still for a while between the looks.
    long most = 1000000 - (long)(nowMs() - begun);
    check(!getTimer(far, &now));
    long left = now.it_value.tv_sec * 1000 + now.it_value.tv_nsec / 1000000, least = 1000000 - (long)(nowMs() - begun);
    if (left > most + 500 || left < least - 500) fail("%ld ms are left, not %ld to %ld", left, least, most);
    check(!getTimer(still, &now));
    equal(now.it_value.tv_sec + now.it_value.tv_nsec, 0);
    equal(getTimer(gap, &now), -1);
    int before = ticks, beforeThread = threadTicks;
    sleepMs(150);
    if (ticks - before < 3) fail("%d ticks in 150 ms", ticks - before);
    if (threadTicks - beforeThread < 3) fail("%d ticks of the thread in 150 ms", threadTicks - beforeThread);
    equal(ticked, threadId);
    ok();
  }
}
