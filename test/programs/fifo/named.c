// Named pipes: content between two openings, one open both ways, one whose name is gone, a child at the other end.
#include "program.h"
#include <sys/ioctl.h>

int main(void) {
  char text[64];
  struct stat s;
  mkfifo("/tmp/fifo", 0640), mkfifo("/tmp/fifo-both", 0600), mkfifo("/tmp/fifo-gone", 0600), mkfifo("/tmp/fifo-child", 0600);
  int reader = open("/tmp/fifo", O_RDONLY | O_NONBLOCK), writer = open("/tmp/fifo", O_WRONLY);
  int both = open("/tmp/fifo-both", O_RDWR), gone = open("/tmp/fifo-gone", O_RDWR);
  check(!unlink("/tmp/fifo-gone"));
  check(fcntl(writer, F_SETPIPE_SZ, 131072) == 131072);
  check(write(writer, "in between", 10) == 10 && write(both, "both", 4) == 4 && write(gone, "gone", 4) == 4);
  if (!fork()) {
    int end = open("/tmp/fifo-child", O_WRONLY);
    while (read(both, text, 4) == 4)
      if (write(end, text, 4) != 4) _exit(1);
    _exit(0);
  }
  int fromChild = open("/tmp/fifo-child", O_RDONLY);
  begin();
  for (;;) {
    next();
    equal(read(reader, text, 64), 10);
    check(!memcmp(text, "in between", 10));
    equal(read(reader, text, 64), -1);
    equal(errno, EAGAIN);
    equal(fcntl(reader, F_GETPIPE_SZ), 131072);
    check(write(writer, "in between", 10) == 10);
    check(read(fromChild, text, 4) == 4 && !memcmp(text, "both", 4) && write(both, "both", 4) == 4);
    check(read(gone, text, 4) == 4 && !memcmp(text, "gone", 4) && write(gone, "gone", 4) == 4);
    check(!stat("/tmp/fifo", &s) && S_ISFIFO(s.st_mode) && (s.st_mode & 0777) == 0640);
    check(stat("/tmp/fifo-gone", &s) && errno == ENOENT);
    ok();
  }
}
