// Pseudo-terminals: settings, window size, what waits on both sides, a session with a foreground group, one never opened, numbers.
#include "program.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master(int* index) {
  int fd = posix_openpt(O_RDWR | O_NOCTTY);
  check(fd >= 0 && !grantpt(fd) && !unlockpt(fd) && !ioctl(fd, TIOCGPTN, index));
  return fd;
}

static int slave(int index) {
  char path[64];
  sprintf(path, "/dev/pts/%d", index);
  int fd = open(path, O_RDWR | O_NOCTTY);
  check(fd >= 0);
  return fd;
}

static void raw(int fd) {
  struct termios t;
  check(!tcgetattr(fd, &t));
  cfmakeraw(&t);
  t.c_cc[VMIN] = 1;
  check(!tcsetattr(fd, TCSANOW, &t));
}

static void reads(int fd, const char* text) {
  char bytes[200];
  struct pollfd p = {.fd = fd, .events = POLLIN};
  size_t n = 0;
  while (n < strlen(text)) {
    check(poll(&p, 1, 2000) == 1);
    ssize_t r = read(fd, bytes + n, strlen(text) - n);
    check(r > 0);
    n += r;
  }
  check(!memcmp(bytes, text, n));
  check(poll(&p, 1, 0) == 0);
}

int main(void) {
  int skipped, i0, i1, i2, i3;
  int first = master(&skipped), m = master(&i0), lines = master(&i1), unopened = master(&i2), hung = master(&i3);
  close(first);
  int s = slave(i0), l = slave(i1);
  close(slave(i3));
  raw(s);
  struct winsize size = {.ws_row = 33, .ws_col = 111}, found;
  check(!ioctl(m, TIOCSWINSZ, &size));
  check(write(m, "typed", 5) == 5 && write(s, "printed", 7) == 7);
  check(write(lines, "one line\nanother\n", 17) == 17);
  reads(lines, "one line\r\nanother\r\n");
  // A session of its own, that echoes lines of its terminal.
  int index, own = master(&index);
  pid_t child = fork();
  if (!child) {
    char text[100], path[64];
    setsid();
    sprintf(path, "/dev/pts/%d", index);
    int fd = open(path, O_RDWR);
    raw(fd);
    if (fd < 0 || tcgetpgrp(fd) != getpid()) _exit(1);
    if (write(fd, "!", 1) != 1) _exit(1);
    for (ssize_t n; (n = read(fd, text, sizeof text)) > 0;)
      if (write(fd, text, n) != n || tcgetpgrp(fd) != getpid() || tcgetsid(fd) != getpid() || open("/dev/tty", O_RDWR | O_CLOEXEC) < 0) _exit(1);
    _exit(0);
  }
  reads(own, "!");
  begin();
  for (;;) {
    struct termios t;
    next();
    check(!ioctl(s, TIOCGWINSZ, &found) && found.ws_row == 33 && found.ws_col == 111);
    check(!tcgetattr(s, &t) && !(t.c_lflag & (ICANON | ECHO)) && !(t.c_oflag & OPOST));
    check(!tcgetattr(l, &t) && (t.c_lflag & ICANON) && (t.c_lflag & ECHO));
    reads(s, "typed");
    reads(m, "printed");
    check(write(m, "typed", 5) == 5 && write(s, "printed", 7) == 7);
    char text[100];
    equal(read(l, text, 100), 9);
    equal(read(l, text, 100), 8);
    check(write(lines, "one line\nanother\n", 17) == 17);
    reads(lines, "one line\r\nanother\r\n");
    int n;
    check(!ioctl(unopened, TIOCGPTN, &n) && n == i2);
    struct pollfd p = {.fd = hung, .events = POLLIN};
    check(poll(&p, 1, 0) == 1 && (p.revents & POLLHUP));
    check(write(own, "hello", 5) == 5);
    reads(own, "hello");
    check(tcgetpgrp(own) == child && tcgetsid(own) == child);
    ok();
  }
}
