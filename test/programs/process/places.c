// Where processes are: another root, a working directory that is gone, umask, a subreaper with an orphan, a death signal.
#include "program.h"
#include <sys/prctl.h>

static int toChild[2][2], fromChild[2][2];

static void answer(int i, int good) {
  char c = good ? 'y' : 'n';
  if (write(fromChild[i][1], &c, 1) != 1) _exit(1);
}

static void jailed(int i) {
  char c;
  struct stat s;
  if (mkdir("/tmp/jail", 0755) && errno != EEXIST) _exit(1);
  close(open("/tmp/jail/inside", O_CREAT | O_RDWR, 0600));
  if (mkdir("/tmp/jail/here", 0755) && errno != EEXIST) _exit(1);
  if (chroot("/tmp/jail") || chdir("/here")) _exit(2);
  umask(0137);
  char path[100];
  answer(i, 1);
  while (read(toChild[i][0], &c, 1) == 1) answer(i, !stat("/inside", &s) && stat("/tmp", &s) && getcwd(path, 100) && !strcmp(path, "/here") && umask(0137) == 0137);
  _exit(0);
}

static void homeless(int i) {
  char c, path[100];
  if (mkdir("/tmp/homeless", 0755) || chdir("/tmp/homeless") || rmdir("/tmp/homeless")) _exit(1);
  answer(i, 1);
  while (read(toChild[i][0], &c, 1) == 1) answer(i, !getcwd(path, 100) && errno == ENOENT);
  _exit(0);
}

static int asks(int i) {
  char c;
  check(write(toChild[i][1], "?", 1) == 1);
  if (read(fromChild[i][0], &c, 1) != 1) fail("child %d has ended", i);
  return c == 'y';
}

static pid_t orphan(void) {
  int ends[2];
  pid_t own;
  check(!pipe(ends));
  pid_t between = fork();
  if (!between) {
    pid_t pid = fork();
    if (!pid) {
      prctl(PR_SET_PDEATHSIG, SIGTERM);
      for (;;) pause();
    }
    if (write(ends[1], &pid, sizeof pid) != sizeof pid) _exit(1);
    _exit(0);
  }
  check(read(ends[0], &own, sizeof own) == sizeof own);
  waitpid(between, NULL, 0);
  close(ends[0]), close(ends[1]);
  return own;
}

int main(void) {
  check(!prctl(PR_SET_CHILD_SUBREAPER, 1));
  for (int i = 0; i < 2; i++) {
    check(!pipe(toChild[i]) && !pipe(fromChild[i]));
    if (!fork()) i ? homeless(i) : jailed(i);
    char c;
    check(read(fromChild[i][0], &c, 1) == 1);
  }
  pid_t mine = orphan();
  begin();
  for (;;) {
    next();
    if (!asks(0)) fail("the jail has changed");
    if (!asks(1)) fail("there is a working directory again");
    int reaps = 0, status;
    check(!prctl(PR_GET_CHILD_SUBREAPER, &reaps) && reaps == 1);
    check(!kill(mine, SIGKILL));
    equal(waitpid(mine, &status, 0), mine);
    mine = orphan();
    ok();
  }
}
