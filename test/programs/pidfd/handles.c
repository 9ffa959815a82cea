// pidfds of a child, of itself, of a zombie and of one that is gone.
#include "program.h"
#include <poll.h>

static int readable(int fd) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

int main(void) {
  pid_t child = fork();
  if (!child)
    for (;;) pause();
  pid_t ended = fork();
  if (!ended) _exit(5);
  pid_t gone = fork();
  if (!gone) _exit(6);
  int toChild = syscall(SYS_pidfd_open, child, 0), toSelf = syscall(SYS_pidfd_open, getpid(), O_NONBLOCK);
  int toEnded = syscall(SYS_pidfd_open, ended, 0), toGone = syscall(SYS_pidfd_open, gone, 0);
  siginfo_t info;
  check(waitpid(gone, NULL, 0) == gone && !waitid(P_PID, ended, &info, WEXITED | WNOWAIT));
  begin();
  for (;;) {
    next();
    check(!readable(toChild) && !readable(toSelf) && readable(toEnded) && readable(toGone));
    check(!syscall(SYS_pidfd_send_signal, toChild, 0, NULL, 0) && !syscall(SYS_pidfd_send_signal, toSelf, 0, NULL, 0));
    equal(syscall(SYS_pidfd_send_signal, toGone, 0, NULL, 0), -1);
    equal(errno, ESRCH);
    check(!waitid(P_PIDFD, toEnded, &info, WEXITED | WNOWAIT) && info.si_status == 5 && info.si_pid == ended);
    check(fcntl(toSelf, F_GETFL) & O_NONBLOCK);
    ok();
  }
}
