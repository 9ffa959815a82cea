// Counters with values, as a semaphore, non-blocking, full; shared with a child.
#include "program.h"
#include <sys/eventfd.h>

int main(void) {
  int plain = eventfd(5, 0), semaphore = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC), empty = eventfd(0, EFD_NONBLOCK);
  int to = eventfd(0, 0), from = eventfd(0, 0), full = eventfd(0, EFD_NONBLOCK);
  uint64_t most = 0xfffffffffffffffeull, n, one = 1;
  check(write(full, &most, 8) == 8);
  if (!fork()) {
    while (read(to, &n, 8) == 8) {
      n *= 2;
      if (write(from, &n, 8) != 8) _exit(1);
    }
    _exit(0);
  }
  begin();
  for (uint64_t round = 1;; round++) {
    next();
    equal(read(plain, &n, 8), 8);
    equal(n, round == 1 ? 5 : round);
    n = round + 1;
    check(write(plain, &n, 8) == 8);
    for (int i = 0; i < 3; i++) {
      equal(read(semaphore, &n, 8), 8);
      equal(n, 1);
    }
    equal(read(semaphore, &n, 8), -1);
    n = 3;
    check(write(semaphore, &n, 8) == 8);
    check(fcntl(semaphore, F_GETFD) == FD_CLOEXEC);
    equal(read(empty, &n, 8), -1);
    equal(errno, EAGAIN);
    equal(write(full, &one, 8), -1);
    n = round * 10;
    check(write(to, &n, 8) == 8 && read(from, &n, 8) == 8);
    equal(n, round * 20);
    ok();
  }
}
