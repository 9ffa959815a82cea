// Pipes in packet mode, of sizes of their own, shared by processes, non-blocking on one side; readers and writers that have gone.
#include "program.h"
#include <poll.h>

// What is written plainly and what is written as packets, in one pipe: small packets are added to plain bytes before them, and are none.
static char data[8192];

static void put(int* ends, size_t bytes, int flags) {
  check(!fcntl(ends[1], F_SETFL, O_NONBLOCK | flags));
  check(write(ends[1], data, bytes) == (ssize_t)bytes);
}

static void take(int* ends, size_t room, ssize_t bytes) {
  static char into[8192];
  equal(read(ends[0], into, room), bytes);
}

static void isEmpty(int* ends) {
  take(ends, 1, -1);
  equal(errno, EAGAIN);
}

enum { ADDED, BEHIND, BEGUN, AFTER, MIXED };

static void fillMixed(int mixed[][2]) {
  put(mixed[ADDED], 100, 0);
  put(mixed[ADDED], 50, O_DIRECT);
  put(mixed[BEHIND], 4000, 0);
  put(mixed[BEHIND], 200, O_DIRECT);
  put(mixed[BEGUN], 3900, 0);
  put(mixed[BEGUN], 300, O_DIRECT);
  take(mixed[BEGUN], 3000, 3000);
  put(mixed[AFTER], 3, O_DIRECT);
  put(mixed[AFTER], 5, 0);
}

static void takeMixed(int mixed[][2]) {
  take(mixed[ADDED], 60, 60);
  take(mixed[ADDED], 200, 90);
  take(mixed[BEHIND], 3900, 3900);
  take(mixed[BEHIND], 150, 150);
  take(mixed[BEGUN], 1000, 1000);
  take(mixed[AFTER], 2, 2);
  take(mixed[AFTER], 2, 2);
  take(mixed[AFTER], 9, 3);
  for (int i = 0; i < MIXED; i++) isEmpty(mixed[i]);
}

// A packet whose writer is gone.
static void leave(int* ends) {
  check(!pipe2(ends, O_NONBLOCK));
  put(ends, 50, O_DIRECT);
  close(ends[1]);
}

int main(void) {
  int mixed[MIXED][2], last[2];
  for (int i = 0; i < MIXED; i++) check(!pipe2(mixed[i], O_NONBLOCK));
  fillMixed(mixed);
  leave(last);
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
    takeMixed(mixed);
    fillMixed(mixed);
    take(last, 20, 20);
    take(last, 20, 0);
    close(last[0]);
    leave(last);
    ok();
  }
}
