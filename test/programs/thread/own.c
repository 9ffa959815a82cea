// What a thread changes of itself and no file tells of: alternate signal stack, death signal, slack of its timers; changed by each
// of two threads right before it says so, and to be found again as it was left.
#include "program.h"
#include <pthread.h>
#include <sys/prctl.h>

#define STACK (64 << 10)

static char stacks[2][2][STACK];
static int asks[2], answers[2];

static void is(int who, int round) {
  stack_t now;
  int signal;
  check(!sigaltstack(NULL, &now));
  if (round % 3 == 2) equal(now.ss_flags, SS_DISABLE);
  else {
    check(now.ss_sp == stacks[who][round % 2]);
    equal(now.ss_size, STACK - 4096 * (round % 4));
  }
  check(!prctl(PR_GET_PDEATHSIG, &signal));
  equal(signal, who + 1 + round % 30);
  equal(prctl(PR_GET_TIMERSLACK), 50000 + round * 1000 + who);
}

static void become(int who, int round) {
  stack_t next = {.ss_sp = stacks[who][round % 2], .ss_size = STACK - 4096 * (round % 4)};
  if (round % 3 == 2) next.ss_flags = SS_DISABLE;
  check(!sigaltstack(&next, NULL));
  check(!prctl(PR_SET_PDEATHSIG, who + 1 + round % 30));
  check(!prctl(PR_SET_TIMERSLACK, 50000 + round * 1000 + who));
}

static void* other(void* unused) {
  (void)unused;
  become(1, 0);
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
  become(0, 0);
  check(!pthread_create(&thread, NULL, other, NULL));
  check(read(answers[0], &byte, 1) == 1);
  begin();
  for (int round = 0;; round++) {
    next();
    is(0, round);
    check(write(asks[1], &byte, 1) == 1 && read(answers[0], &byte, 1) == 1);
    become(0, round + 1);
    ok();
  }
}
