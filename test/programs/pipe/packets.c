// Pipes in packet mode, of sizes of their own, shared by processes, non-blocking on one side; readers and writers that have gone.
#include "program.h"
#include <poll.h>

int main(void) {
  int packets[2], large[2], alone[2], full[2];
  char back[4096], block[4096];
  memset(block, 'f', sizeof block);
  check(!pipe2(packets, O_DIRECT | O_NONBLOCK) && !pipe2(large, 0) && !pipe2(alone, O_NONBLOCK) && !pipe2(full, O_NONBLOCK));
  check(write(packets[1], "one", 3) == 3 && write(packets[1], "three", 5) == 5 && write(packets[1], "x", 1) == 1);
  check(fcntl(large[1], F_SETPIPE_SZ, 1 << 18) == 1 << 18);
  check(fcntl(full[1], F_SETPIPE_SZ, 4096) == 4096);
  check(write(full[1], block, 4096) == 4096);
  check(write(alone[1], "left", 4) == 4);
  close(alone[1]);
  signal(SIGPIPE, SIG_IGN);
  begin();
  for (int round = 0;; round++) {
    next();
    equal(read(packets[0], back, 100), 3);
    equal(read(packets[0], back, 2), 2);
    equal(read(packets[0], back, 100), 1);
    check(back[0] == 'x');
    equal(read(packets[0], back, 1), -1);
    equal(errno, EAGAIN);
    check(write(packets[1], "one", 3) == 3 && write(packets[1], "three", 5) == 5 && write(packets[1], "x", 1) == 1);
    check(fcntl(packets[1], F_GETFL) & O_DIRECT);
    equal(fcntl(large[0], F_GETPIPE_SZ), 1 << 18);
    equal(fcntl(full[0], F_GETPIPE_SZ), 4096);
    equal(write(full[1], "y", 1), -1);
    equal(errno, EAGAIN);
    check(read(full[0], back, 4096) == 4096 && !memcmp(back, block, 4096));
    check(write(full[1], block, 4096) == 4096);
    if (round == 0) equal(read(alone[0], back, 100), 4);
    equal(read(alone[0], back, 100), 0);
    struct pollfd p = {alone[0], POLLIN, 0};
    check(poll(&p, 1, 0) == 1 && (p.revents & POLLHUP));
    ok();
  }
}
