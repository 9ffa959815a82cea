// Named pipes as full as the kernel lets them get: of several sizes, by single bytes in packet mode, by pages of memory.
#include "program.h"
#include <sys/ioctl.h>
#include <sys/uio.h>

static char data[1 << 21], back[1 << 21];

struct full {
  int reader, writer, size, packets;
  size_t piece, bytes;
};

static void fillUp(struct full* one) {
  for (one->bytes = 0;;) {
    ssize_t n = write(one->writer, data + one->bytes, one->piece);
    if (n < 0) break;
    one->bytes += n;
  }
  equal(errno, EAGAIN);
}

int main(void) {
  struct full all[] = {
      {.piece = 4096},
      {.piece = 4095, .size = 4096},
      {.piece = 4096, .size = 1 << 20},
      {.piece = 1, .packets = 1},
      {.piece = 1000, .packets = 1, .size = 1 << 18},
  };
  int count = sizeof all / sizeof *all;
  for (size_t i = 0; i < sizeof data; i++) data[i] = i * 131 >> 3;
  mkdir("/var/lib/full", 0700);
  for (int i = 0; i < count; i++) {
    char path[64];
    snprintf(path, sizeof path, "/var/lib/full/%d", i);
    check(!mkfifo(path, 0600));
    all[i].reader = open(path, O_RDONLY | O_NONBLOCK);
    all[i].writer = open(path, O_WRONLY | O_NONBLOCK);
    if (all[i].size) check(fcntl(all[i].reader, F_SETPIPE_SZ, all[i].size) == all[i].size);
    if (all[i].packets) check(!fcntl(all[i].writer, F_SETFL, O_NONBLOCK | O_DIRECT));
    fillUp(&all[i]);
    if (i == 2) check(!unlink(path));
  }
  begin();
  for (;;) {
    next();
    for (int i = 0; i < count; i++) {
      struct full* one = &all[i];
      int n;
      check(!ioctl(one->reader, FIONREAD, &n));
      equal(n, one->bytes);
      equal(fcntl(one->reader, F_GETPIPE_SZ), one->size ? one->size : 65536);
      equal(write(one->writer, "xx", one->packets ? 1 : 2), -1);
      equal(errno, EAGAIN);
      for (size_t at = 0; at < one->bytes;) {
        ssize_t got = read(one->reader, back, sizeof back);
        check(got > 0 && !memcmp(back, data + at, got));
        if (one->packets) equal(got, one->piece);
        at += got;
      }
      equal(read(one->reader, back, 1), -1);
      fillUp(one);
      equal(n, one->bytes);
    }
    ok();
  }
}
