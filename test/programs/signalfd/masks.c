// signalfd: its set, a signal that waits, one that comes later, flags.
#include "program.h"
#include <sys/signalfd.h>

int main(void) {
  sigset_t set;
  struct signalfd_siginfo info;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  sigaddset(&set, SIGRTMIN + 3);
  check(!sigprocmask(SIG_BLOCK, &set, NULL));
  int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), other;
  sigdelset(&set, SIGUSR2);
  check((other = signalfd(-1, &set, 0)) >= 0);
  union sigval value = {.sival_int = 77};
  check(!sigqueue(getpid(), SIGRTMIN + 3, value));
  begin();
  for (;;) {
    next();
    equal(read(other, &info, sizeof info), sizeof info);
    check(info.ssi_signo == (unsigned)SIGRTMIN + 3 && info.ssi_int == 77);
    equal(read(fd, &info, sizeof info), -1);
    equal(errno, EAGAIN);
    check(!kill(getpid(), SIGUSR2) && read(fd, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR2);
    check(fcntl(fd, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFL) & O_NONBLOCK) && !(fcntl(other, F_GETFL) & O_NONBLOCK));
    check(!sigqueue(getpid(), SIGRTMIN + 3, value));
    ok();
  }
}
