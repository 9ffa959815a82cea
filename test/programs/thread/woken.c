// A call with a time limit that an event ends early, in a clone too: what its thread does afterwards, without another sleep, is not
// taken for the call when the limit is over.
#include "program.h"
#include <poll.h>
#include <pthread.h>

#define LIMIT_MS 700
#define SPIN_MS 900

static int wake[2];
static volatile int rounds;

static void* waits(void* argument) {
  char* place = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (char c;;) {
    struct pollfd p = {wake[0], POLLIN, 0};
    int r = poll(&p, 1, LIMIT_MS);
    if (r == 0) continue;
    equal(r, 1);
    check(read(wake[0], &c, 1) == 1);
    for (uint64_t until = nowMs() + SPIN_MS, n = 0; nowMs() < until; n++) {
      for (volatile int i = 0; i < 1000; i++) continue;
      check(mmap(place, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == place);
      equal(syscall(SYS_getppid, n), getppid());
    }
    rounds++;
  }
  return argument;
}

int main(void) {
  pthread_t thread;
  check(!pipe(wake));
  check(!pthread_create(&thread, NULL, waits, NULL));
  begin();
  for (;;) {
    next();
    int before = rounds;
    check(write(wake[1], "x", 1) == 1);
    for (int n = 0; rounds == before; n++) {
      if (n > 20000) fail("the thread does not go on");
      sleepMs(1);
    }
    ok();
  }
}
