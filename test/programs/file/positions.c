// Open files: position, append, read-only, non-blocking, directories, read to their end, too; a duplicate and a child share the position.
#include "program.h"
#include <dirent.h>

static int names(int directory) {
  char entries[1 << 15];
  int count = 0;
  for (;;) {
    long n = syscall(SYS_getdents64, directory, entries, sizeof entries);
    check(n >= 0);
    if (n == 0) return count;
    for (long at = 0; at < n; at += *(unsigned short*)(entries + at + 16)) count++;
  }
}

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
  // The node's own, the application's own, both, and one that is gone.
  check(!mkdir("/tmp/read", 0700) && !mkdir("/tmp/gone", 0700));
  for (int i = 0; i < 50; i++) {
    snprintf(text, sizeof text, "/tmp/read/%d", i);
    check(close(open(text, O_CREAT | O_WRONLY, 0600)) == 0);
  }
  const char* paths[] = {"/etc", "/tmp/read", "/tmp", "/tmp/gone"};
  enum { directories = 4 };
  int read_[directories];
  for (int i = 0; i < directories; i++) {
    check((read_[i] = open(paths[i], O_RDONLY | O_NONBLOCK | O_NOFOLLOW)) >= 0);
    check(names(read_[i]) >= 2);
  }
  check(!rmdir("/tmp/gone"));
  begin();
  for (int round = 1;; round++) {
    next();
    for (int i = 0; i < directories - 1; i++) {
      equal(names(read_[i]), 0);
      check(lseek(read_[i], 0, SEEK_SET) == 0);
      int count = names(read_[i]);
      if (i == 1) equal(count, 52);
      check(count > 2);
    }
    check(syscall(SYS_getdents64, read_[directories - 1], text, sizeof text) < 0 && errno == ENOENT);
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
