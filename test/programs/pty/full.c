// Pseudo-terminals whose queues are as full as the kernel lets them get, in both directions: raw, line by line, with a line longer than
// a terminal keeps, in packet mode; what has not come to the terminal yet means what it would have.
#include "program.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

enum { LINE = 64 };
static char data[1 << 20], back[1 << 20];

struct full { int master, slave; size_t typed, printed; };

static void openBoth(struct full* one) {
  char path[64];
  int index;
  one->master = posix_openpt(O_RDWR | O_NOCTTY);
  check(one->master >= 0 && !grantpt(one->master) && !unlockpt(one->master) && !ioctl(one->master, TIOCGPTN, &index));
  sprintf(path, "/dev/pts/%d", index);
  check((one->slave = open(path, O_RDWR | O_NOCTTY)) >= 0);
  check(!fcntl(one->master, F_SETFL, O_NONBLOCK) && !fcntl(one->slave, F_SETFL, O_NONBLOCK));
}

static void set(int fd, int raw) {
  struct termios t;
  check(!tcgetattr(fd, &t));
  cfmakeraw(&t);
  if (!raw) t.c_lflag |= ICANON;
  check(!tcsetattr(fd, TCSANOW, &t));
}

// Until nothing more goes in for a while: the kernel moves things on behind the writer's back.
static size_t fillUp(int fd, size_t piece) {
  size_t bytes = 0;
  for (int quiet = 0; quiet < 20;) {
    ssize_t n = write(fd, data + bytes, piece);
    if (n > 0) bytes += n, quiet = 0;
    else {
      equal(errno, EAGAIN);
      quiet++;
      sleepMs(1);
    }
  }
  return bytes;
}

// Of lines, those that are complete.
static void takeAll(int fd, size_t bytes) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  for (size_t at = 0; at < bytes;) {
    if (poll(&p, 1, 1000) != 1) fail("only %zu of %zu bytes came", at, bytes);
    ssize_t n = read(fd, back, sizeof back);
    check(n > 0);
    for (ssize_t i = 0; i < n; i++)
      if (back[i] != data[at + i]) fail("byte %zu of %zu is %d, not %d", at + i, bytes, back[i], data[at + i]);
    at += n;
  }
  equal(poll(&p, 1, 20), 0);
}

int main(void) {
  static struct full all[4];
  for (size_t i = 0; i < sizeof data; i++) data[i] = i % LINE == LINE - 1 ? '\n' : ' ' + i * 131 / 7 % 90;
  for (int i = 0; i < 4; i++) {
    openBoth(&all[i]);
    set(all[i].slave, i != 1);
    all[i].typed = i == 2 ? 0 : fillUp(all[i].master, i == 3 ? 1 : 1000);
    all[i].printed = i == 3 ? fillUp(all[i].slave, 1) : fillUp(all[i].slave, 1000);
    check(i == 2 || all[i].typed > 4000);
    check(all[i].printed > 4000);
  }
  begin();
  for (;;) {
    next();
    for (int i = 0; i < 4; i++) {
      size_t begun = i == 1 ? all[i].typed % LINE : 0;
      takeAll(all[i].slave, all[i].typed - begun);
      if (begun > 0) {
        check(write(all[i].master, "\n", 1) == 1);
        equal(read(all[i].slave, back, sizeof back), begun + 1);
        check(!memcmp(back, data + all[i].typed - begun, begun) && back[begun] == '\n');
      }
      takeAll(all[i].master, all[i].printed);
      all[i].typed = i == 2 ? 0 : fillUp(all[i].master, i == 3 ? 1 : 1000);
      all[i].printed = i == 3 ? fillUp(all[i].slave, 1) : fillUp(all[i].slave, 1000);
    }
    ok();
  }
}
