// Groups whose first process has ended, running or not collected: their others stay in them, can be signalled and waited for.
#include "program.h"

static volatile sig_atomic_t told;
static void onSignal(int s) { told++; }

// A process that joins `group` (0: one of its own), and ends when it is told to.
static pid_t member(pid_t group) {
  pid_t pid = fork();
  if (!pid) {
    setpgid(0, group);
    while (!told) sleepMs(2);
    _exit(5);
  }
  setpgid(pid, group ? group : pid);
  return pid;
}

static pid_t shortLived(void) {
  pid_t pid = fork();
  if (!pid) {
    setpgid(0, 0);
    sleepMs(100);
    _exit(3);
  }
  setpgid(pid, pid);
  return pid;
}

struct job { pid_t leader, a, b; };

static void start(struct job* j, int collected) {
  j->leader = shortLived();
  j->a = member(j->leader), j->b = member(j->leader);
  siginfo_t info;
  check(!waitid(P_PID, j->leader, &info, WEXITED | WNOWAIT));
  if (collected) equal(waitpid(j->leader, NULL, 0), j->leader);
}

static void finish(struct job* j, int collected) {
  int status, left = collected ? 2 : 3;
  equal(getpgid(j->a), j->leader);
  equal(getpgid(j->b), j->leader);
  if (!collected) equal(getpgid(j->leader), j->leader);
  check(!kill(-j->leader, SIGUSR2));
  for (pid_t pid; left > 0; left--) {
    pid = waitpid(-j->leader, &status, 0);
    if (pid <= 0) fail("waitpid for the group with %d left", left);
    check(WIFEXITED(status));
    equal(WEXITSTATUS(status), pid == j->leader ? 3 : 5);
  }
  equal(waitpid(-j->leader, &status, 0), -1);
  equal(errno, ECHILD);
}

int main(void) {
  struct job collected, kept;
  // Before there are members: on a busy machine one may be told before it has run at all.
  signal(SIGUSR2, onSignal);
  start(&collected, 1), start(&kept, 0);
  sleepMs(50);
  begin();
  for (;;) {
    next();
    finish(&collected, 1), finish(&kept, 0);
    start(&collected, 1), start(&kept, 0);
    sleepMs(50);
    ok();
  }
}
