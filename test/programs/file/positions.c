// Open files: position, append, read-only, non-blocking, a directory; a duplicate and a child share the position.
#include "program.h"
#include <dirent.h>

int main(void) {
  char text[64];
  int plain = open("/tmp/plain", O_CREAT | O_RDWR | O_TRUNC, 0600);
  check(write(plain, "0123456789abcdef", 16) == 16 && lseek(plain, 4, SEEK_SET) == 4);
  int second = dup(plain), high = fcntl(plain, F_DUPFD_CLOEXEC, 900), other = open("/tmp/plain", O_RDONLY);
  int append = open("/tmp/append", O_CREAT | O_WRONLY | O_APPEND | O_TRUNC, 0600);
  int directory = open("/tmp", O_RDONLY | O_DIRECTORY), null = open("/dev/null", O_RDWR);
  check(write(append, "x", 1) == 1);
  int to[2], from[2];
  check(!pipe(to) && !pipe(from));
  if (!fork()) {
    while (read(to[0], text, 1) == 1)
      if (read(plain, text, 1) != 1 || write(from[1], text, 1) != 1) _exit(1);
    _exit(0);
  }
  begin();
  for (int round = 1;; round++) {
    next();
    check(lseek(plain, 4, SEEK_SET) == 4);
    equal(read(second, text, 2), 2);
    check(!memcmp(text, "45", 2));
    check(write(to[1], "", 1) == 1 && read(from[0], text, 1) == 1);
    equal(text[0], '6');
    equal(lseek(high, 0, SEEK_CUR), 7);
    check(fcntl(high, F_GETFD) == FD_CLOEXEC && fcntl(second, F_GETFD) == 0);
    int at = (round - 1) % 16;
    equal(lseek(other, 0, SEEK_CUR), round > 1 && at == 0 ? 16 : at);
    check(lseek(other, at, SEEK_SET) == at && read(other, text, 1) == 1);
    equal(text[0], "0123456789abcdef"[at]);
    check(fcntl(append, F_GETFL) & O_APPEND);
    check(write(append, "y", 1) == 1);
    equal(lseek(append, 0, SEEK_CUR), round + 1);
    check(write(null, "z", 1) == 1 && read(null, text, 1) == 0);
    check(fcntl(directory, F_GETFL) & O_DIRECTORY);
    equal(openat(directory, "plain", O_RDONLY | O_CLOEXEC) >= 0, 1);
    ok();
  }
}
