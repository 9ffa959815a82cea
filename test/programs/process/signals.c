// Signal actions of many kinds, changed between checkpoints without a change of which signals are caught; the blocked ones.
#include "program.h"

static volatile int counts[3][65];
static void a(int s) { counts[0][s]++; }
static void b(int s) { counts[1][s]++; }
static void c(int s, siginfo_t* info, void* context) { counts[2][s] += info->si_value.sival_int; }

int main(void) {
  struct sigaction action = {.sa_handler = a, .sa_flags = SA_RESTART}, now;
  sigaddset(&action.sa_mask, SIGUSR2);
  check(!sigaction(SIGHUP, &action, NULL));
  struct sigaction value = {.sa_sigaction = c, .sa_flags = SA_SIGINFO | SA_NODEFER};
  check(!sigaction(SIGRTMIN + 1, &value, NULL));
  signal(SIGPIPE, SIG_IGN);
  begin();
  for (int round = 0;; round++) {
    next();
    check(!sigaction(SIGHUP, NULL, &now));
    check(now.sa_handler == (round % 2 ? b : a));
    equal(now.sa_flags & ~0x04000000, SA_RESTART);
    check(sigismember(&now.sa_mask, SIGUSR2) && !sigismember(&now.sa_mask, SIGTERM));
    check(!sigaction(SIGPIPE, NULL, &now) && now.sa_handler == SIG_IGN);
    check(!sigaction(SIGTERM, NULL, &now) && now.sa_handler == SIG_DFL);
    int before = counts[round % 2][SIGHUP];
    raise(SIGHUP);
    equal(counts[round % 2][SIGHUP], before + 1);
    before = counts[2][SIGRTMIN + 1];
    sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 5});
    equal(counts[2][SIGRTMIN + 1], before + 5);
    action.sa_handler = round % 2 ? a : b;
    check(!sigaction(SIGHUP, &action, NULL));
    ok();
  }
}
