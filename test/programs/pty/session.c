// A shell's session on a terminal: jobs in groups of their own, the foreground among them; children have it as their own, too.
#include "program.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static int m;

static void reads(const char* text) {
  char bytes[300];
  struct pollfd p = {.fd = m, .events = POLLIN};
  size_t n = 0;
  while (n < strlen(text)) {
    if (poll(&p, 1, 3000) != 1) fail("nothing comes after %.*s", (int)n, bytes);
    ssize_t r = read(m, bytes + n, sizeof bytes - n);
    check(r > 0);
    n += r;
  }
  if (n != strlen(text) || memcmp(bytes, text, n)) fail("%.*s, not %s", (int)n, bytes, text);
}

// In a job: answers each letter that comes over its pipe.
static void job(int from, char name) {
  char c, text[8];
  setpgid(0, 0);
  signal(SIGTTOU, SIG_DFL);
  signal(SIGINT, SIG_DFL);
  while (read(from, &c, 1) == 1) {
    int tty = open("/dev/tty", O_RDWR);
    if (tty < 0) _exit(10);
    if (tcgetsid(tty) != getsid(0)) _exit(11);
    int n = sprintf(text, "%c%c", name, tcgetpgrp(tty) == getpgrp() ? '+' : '-');
    if (write(tty, text, n) != n) _exit(12);
    close(tty);
  }
  _exit(0);
}

// The leader: starts two jobs, puts one in front; commands: a, b: ask a job; x, y: put a job in front; q.
static void shell(const char* path) {
  int pipes[2][2];
  pid_t jobs[2];
  setsid();
  int tty = open(path, O_RDWR);
  signal(SIGTTOU, SIG_IGN);
  signal(SIGINT, SIG_IGN);
  for (int i = 0; i < 2; i++) {
    if (pipe2(pipes[i], O_CLOEXEC)) _exit(1);
    jobs[i] = fork();
    if (!jobs[i]) {
      for (int k = 0; k <= i; k++) close(pipes[k][1]);
      job(pipes[i][0], 'a' + i);
    }
    setpgid(jobs[i], jobs[i]);
  }
  tcsetpgrp(tty, jobs[0]);
  if (write(tty, "$", 1) != 1) _exit(1);
  sigset_t set;
  sigemptyset(&set), sigaddset(&set, SIGRTMIN);
  for (siginfo_t info;;) {
    if (sigwaitinfo(&set, &info) < 0) continue;
    int command = info.si_value.sival_int;
    if (command == 'x' || command == 'y') {
      if (tcsetpgrp(tty, jobs[command - 'x'])) _exit(2);
      if (write(tty, "$", 1) != 1) _exit(1);
    } else if (write(pipes[command - 'a'][1], "?", 1) != 1) _exit(3);
  }
}

static pid_t leader;

static void ask(int command, const char* answer) {
  union sigval v = {.sival_int = command};
  check(!sigqueue(leader, SIGRTMIN, v));
  reads(answer);
}

int main(void) {
  char path[64];
  int index;
  struct termios t;
  sigset_t set;
  sigemptyset(&set), sigaddset(&set, SIGRTMIN), sigprocmask(SIG_BLOCK, &set, NULL);
  m = posix_openpt(O_RDWR | O_NOCTTY);
  check(m >= 0 && !grantpt(m) && !unlockpt(m) && !ioctl(m, TIOCGPTN, &index));
  sprintf(path, "/dev/pts/%d", index);
  int slave = open(path, O_RDWR | O_NOCTTY);
  check(!tcgetattr(slave, &t));
  cfmakeraw(&t);
  t.c_lflag |= ISIG;
  check(!tcsetattr(slave, TCSANOW, &t));
  leader = fork();
  if (!leader) {
    close(m), close(slave);
    shell(path);
  }
  reads("$");
  close(slave);
  begin();
  for (;;) {
    next();
    ask('a', "a+");
    ask('b', "b-");
    ask('y', "$");
    ask('a', "a-");
    ask('b', "b+");
    ask('x', "$");
    check(tcgetsid(m) == leader);
    ok();
  }
}
