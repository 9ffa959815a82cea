// A numbered stream from child to parent, never still; nothing may be lost, doubled or out of order.
#include "program.h"

int main(void) {
  int ends[2];
  check(!pipe(ends));
  if (!fork()) {
    close(ends[0]);
    for (uint64_t n = 0;; n++) {
      if (write(ends[1], &n, sizeof n) != sizeof n) _exit(0);
      if (n % 512 == 0) sleepMs(1);
    }
  }
  close(ends[1]);
  begin();
  uint64_t block[100];
  for (uint64_t wanted = 0;;) {
    ssize_t n = read(ends[0], block, sizeof block);
    check(n > 0 && n % 8 == 0);
    for (int i = 0; i < n / 8; i++) equal(block[i], wanted++);
    if (asked()) ok();
  }
}
