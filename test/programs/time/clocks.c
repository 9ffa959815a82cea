// Monotonic and boot clocks never step back and never jump further than the wall clock says; timers fire with what was left.
#include "program.h"
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/timerfd.h>

static int64_t now(clockid_t which) {
  struct timespec t;
  check(!clock_gettime(which, &t));
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW};
enum { count = 3, ms = 1000000 };
static volatile uint64_t looks;
static int64_t start[count], startWall;

// Looks at the clocks without a pause: a step back between any two looks is found.
static void* watch(void* arg) {
  int64_t last[count];
  for (int i = 0; i < count; i++) last[i] = now(clocks[i]);
  for (;; looks++) {
    for (int i = 0; i < 2; i++) {
      int64_t t = now(clocks[i]);
      if (t < last[i]) fail("clock %d went back by %lld ns", i, (long long)(last[i] - t));
      last[i] = t;
    }
    sleepMs(1);
  }
  return arg;
}

// As much of them has gone as of the wall clock: two machines' wall clocks agree, a switch costs what it costs.
static void agrees(void) {
  int64_t wall = now(CLOCK_REALTIME) - startWall;
  for (int i = 0; i < 2; i++) {
    int64_t gone = now(clocks[i]) - start[i];
    if (llabs(gone - wall) > 3000 * (int64_t)ms) fail("clock %d: %lld ms have gone, not %lld", i, (long long)gone / ms, (long long)wall / ms);
  }
}

static volatile int64_t slept, waited;

// Sleeps until a time, over and over: never wakes before it.
static void* sleeper(void* arg) {
  for (;;) {
    struct timespec t;
    int64_t until = now(CLOCK_MONOTONIC) + 300 * ms;
    t.tv_sec = until / 1000000000, t.tv_nsec = until % 1000000000;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL)) continue;
    if (now(CLOCK_MONOTONIC) < until) fail("woke too early");
    slept++;
  }
  return arg;
}

// Waits for nothing for a while, by one call: 0 says that the while is over.
static void waitOnce(int how, int ep, sem_t* none) {
  struct epoll_event e;
  struct timespec rest = {0, 150 * ms}, until;
  fd_set set;
  FD_ZERO(&set);
  switch (how) {
    case 0:
      equal(poll(NULL, 0, 150), 0);
      break;
    case 1:
      equal(select(0, &set, NULL, NULL, &(struct timeval){0, 150000}), 0);
      break;
    case 2:
      equal(nanosleep(&rest, NULL), 0);
      break;
    case 3:
      check(!clock_gettime(CLOCK_REALTIME, &until));
      until.tv_nsec += 150 * ms;
      if (until.tv_nsec >= 1000000000) until.tv_nsec -= 1000000000, until.tv_sec++;
      equal(sem_timedwait(none, &until), -1);
      equal(errno, ETIMEDOUT);
      break;
    case 4:
      equal(epoll_wait(ep, &e, 1, 150), 0);
      break;
  }
}

static void* waiter(void* arg) {
  int ep = epoll_create1(0);
  sem_t none;
  sem_init(&none, 0, 0);
  for (int how = 0;; how = (how + 1) % 5) {
    int64_t before = now(CLOCK_MONOTONIC);
    waitOnce(how, ep, &none);
    int64_t gone = now(CLOCK_MONOTONIC) - before;
    if (gone < 149 * ms) fail("wait %d was over after %lld ms", how, (long long)gone / ms);
    waited++;
  }
  return arg;
}

int main(void) {
  pthread_t t;
  for (int i = 0; i < count; i++) start[i] = now(clocks[i]);
  startWall = now(CLOCK_REALTIME);
  int periodic = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK);
  struct itimerspec every = {{0, 100 * ms}, {0, 100 * ms}};
  int64_t armedAfter = now(CLOCK_BOOTTIME);
  check(!timerfd_settime(periodic, 0, &every, NULL));
  int64_t armedBefore = now(CLOCK_BOOTTIME);
  uint64_t fired = 0;
  check(!pthread_create(&t, NULL, watch, NULL) && !pthread_create(&t, NULL, sleeper, NULL) && !pthread_create(&t, NULL, waiter, NULL));
  begin();
  for (;;) {
    next();
    uint64_t before = looks;
    int64_t sleeps = slept, waits = waited;
    agrees();
    for (int n = 0; looks < before + 2 || slept == sleeps || waited < waits + 5; n++) {
      if (n > 10000) fail("a thread does not go on: %d looks, %d sleeps, %d waits", looks >= before + 2, slept != sleeps, waited >= waits + 5);
      sleepMs(1);
    }
    uint64_t more;
    int64_t least = (now(CLOCK_BOOTTIME) - armedBefore) / (100 * ms) - 2;
    if (read(periodic, &more, sizeof more) == sizeof more) fired += more;
    int64_t most = (now(CLOCK_BOOTTIME) - armedAfter) / (100 * ms);
    if ((int64_t)fired < least || (int64_t)fired > most) fail("the timer has fired %lld times, not %lld to %lld", (long long)fired, (long long)least, (long long)most);
    agrees();
    ok();
  }
}
