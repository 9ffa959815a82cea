// Pipes with content, sizes, flags, closed ends, both ends in one process and between parent and child; packets.
#include "program.h"
#include <sys/ioctl.h>

static char data[200000], back[200000];

int main(void) {
  int full[2], packets[2], one[2], sized[2], to[2], from[2];
  fill(data, sizeof data, 9);
  check(!pipe2(full, O_NONBLOCK));
  check(!pipe2(packets, O_DIRECT));
  check(!pipe(one));
  check(!pipe2(sized, O_CLOEXEC));
  check(!pipe(to));
  check(!pipe(from));
  check(fcntl(sized[1], F_SETPIPE_SZ, 262144) == 262144);
  check(write(sized[1], data, 150000) == 150000);
  ssize_t filled = write(full[1], data, sizeof data);
  check(filled == 65536);
  check(write(packets[1], "first", 5) == 5 && write(packets[1], "second", 6) == 6);
  check(write(one[1], "left behind", 11) == 11);
  close(one[1]);
  if (!fork()) {
    close(to[1]);
    for (int n; read(to[0], &n, sizeof n) == sizeof n;) {
      n *= 2;
      if (write(from[1], &n, sizeof n) != sizeof n) _exit(1);
    }
    _exit(0);
  }
  close(to[0]);
  begin();
  for (int round = 1;; round++) {
    next();
    int available;
    equal(fcntl(sized[0], F_GETPIPE_SZ), 262144);
    check(!ioctl(sized[0], FIONREAD, &available));
    equal(available, 150000);
    equal(read(sized[0], back, sizeof back), 150000);
    check(!memcmp(back, data, 150000));
    check(write(sized[1], data, 150000) == 150000);
    check(fcntl(sized[0], F_GETFD) == FD_CLOEXEC && fcntl(full[0], F_GETFD) == 0);
    equal(write(full[1], data, 1), -1);
    equal(errno, EAGAIN);
    equal(read(full[0], back, sizeof back), 65536);
    check(!memcmp(back, data, 65536));
    equal(read(full[0], back, 1), -1);
    equal(errno, EAGAIN);
    check(write(full[1], data, sizeof data) == 65536);
    equal(read(packets[0], back, 100), 5);
    equal(read(packets[0], back, 100), 6);
    check(write(packets[1], "first", 5) == 5 && write(packets[1], "second", 6) == 6);
    if (round == 3) {
      equal(read(one[0], back, 100), 11);
      equal(read(one[0], back, 100), 0);
    }
    int n = round * 1000;
    check(write(to[1], &n, sizeof n) == sizeof n && read(from[0], &n, sizeof n) == sizeof n);
    equal(n, round * 2000);
    ok();
  }
}
