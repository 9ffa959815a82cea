// An interval timer started long after the process: it must go on ticking, at its pace.
#include "program.h"
#include <sys/time.h>

static volatile int ticks;
static void tick(int s) { ticks++; }

int main(void) {
  signal(SIGALRM, tick);
  begin();
  next();
  ok();
  struct itimerval timer = {{0, 20000}, {0, 20000}}, now;
  check(!setitimer(ITIMER_REAL, &timer, NULL));
  for (;;) {
    next();
    check(!getitimer(ITIMER_REAL, &now));
    equal(now.it_interval.tv_usec, 20000);
    // Ticks that a busy machine is late for are one.
    for (int before = ticks, tries = 1; sleepMs(120), ticks - before < 3; before = ticks)
      if (tries++ == 50) fail("%d ticks in 120 ms", ticks - before);
    ok();
  }
}
