// Signals that are pending (blocked) at the event, of the process and of one thread, with their values and in order.
#include "program.h"
#include <pthread.h>

static sigset_t set;
static pthread_t thread;

static void queueAll(int round) {
  for (int i = 0; i < 3; i++)
    check(!sigqueue(getpid(), SIGRTMIN + 2, (union sigval){.sival_int = round * 10 + i}));
  check(!kill(getpid(), SIGHUP));
  check(!pthread_sigqueue(thread, SIGRTMIN + 4, (union sigval){.sival_int = round + 77}));
}

int main(void) {
  sigemptyset(&set);
  sigaddset(&set, SIGHUP);
  sigaddset(&set, SIGRTMIN + 2);
  sigaddset(&set, SIGRTMIN + 4);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  thread = pthread_self();
  queueAll(0);
  begin();
  for (int round = 0;; round++) {
    next();
    struct timespec none = {0, 0};
    siginfo_t info;
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGRTMIN + 2);
    for (int i = 0; i < 3; i++) {
      equal(sigtimedwait(&one, &info, &none), SIGRTMIN + 2);
      equal(info.si_value.sival_int, round * 10 + i);
      equal(info.si_pid, getpid());
      equal(info.si_code, SI_QUEUE);
    }
    equal(sigtimedwait(&one, &info, &none), -1);
    sigemptyset(&one);
    sigaddset(&one, SIGHUP);
    equal(sigtimedwait(&one, &info, &none), SIGHUP);
    equal(info.si_pid, getpid());
    sigemptyset(&one);
    sigaddset(&one, SIGRTMIN + 4);
    equal(sigtimedwait(&one, &info, &none), SIGRTMIN + 4);
    equal(info.si_value.sival_int, round + 77);
    queueAll(round + 1);
    ok();
  }
}
