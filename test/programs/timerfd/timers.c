// A periodic timer, a single one far away, an absolute one, ticks that wait to be read, one that is off.
#include "program.h"
#include <poll.h>
#include <sys/timerfd.h>

static int timer(int clock, long firstMs, long everyMs) {
  int fd = timerfd_create(clock, TFD_NONBLOCK);
  struct itimerspec t = {{everyMs / 1000, everyMs % 1000 * 1000000}, {firstMs / 1000, firstMs % 1000 * 1000000}};
  check(!timerfd_settime(fd, 0, &t, NULL));
  return fd;
}

// What has gone by is not left any more, however long the run takes.
static void left(const char* what, long seconds, long whole, uint64_t begun) {
  long together = seconds + (long)(nowMs() - begun) / 1000;
  if (together < whole - 10 || together > whole + 10) fail("%s: %ld s left of %ld", what, seconds, whole);
}

int main(void) {
  uint64_t begun = nowMs();
  int periodic = timer(CLOCK_MONOTONIC, 10, 10), far = timer(CLOCK_REALTIME, 1000000, 0), off = timer(CLOCK_MONOTONIC, 0, 0);
  int boot = timer(CLOCK_BOOTTIME, 500000, 250000);
  int absolute = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct itimerspec at = {{0, 0}, {0, 0}}, now;
  clock_gettime(CLOCK_MONOTONIC, &at.it_value);
  at.it_value.tv_sec += 2000;
  check(!timerfd_settime(absolute, TFD_TIMER_ABSTIME, &at, NULL));
  int spent = timer(CLOCK_MONOTONIC, 1, 0);
  sleepMs(15);
  begin();
  for (;;) {
    next();
    uint64_t n = 0;
    struct pollfd p = {periodic, POLLIN, 0};
    for (int i = 0; i < 3; i++) {
      equal(poll(&p, 1, 500), 1);
      equal(read(periodic, &n, 8), 8);
      check(n >= 1);
    }
    check(!timerfd_gettime(far, &now));
    left("far", now.it_value.tv_sec, 1000, begun);
    check(!timerfd_gettime(boot, &now));
    equal(now.it_interval.tv_sec, 250);
    left("boot", now.it_value.tv_sec, 500, begun);
    check(!timerfd_gettime(absolute, &now));
    left("absolute", now.it_value.tv_sec, 2000, begun);
    equal(read(off, &n, 8), -1);
    equal(errno, EAGAIN);
    equal(read(spent, &n, 8), 8);
    equal(n, 1);
    struct itimerspec soon = {{0, 0}, {0, 1000000}};
    check(!timerfd_settime(spent, 0, &soon, NULL));
    sleepMs(10);
    ok();
  }
}
