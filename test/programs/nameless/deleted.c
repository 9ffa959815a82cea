// Files deleted while open: one with another at its name, two openings, a directory, one written on, one in a directory gone too.
#include "program.h"
#include <dirent.h>

int main(void) {
  char text[64];
  int log = open("/tmp/deleted", O_CREAT | O_RDWR | O_TRUNC | O_APPEND, 0640), reader = open("/tmp/deleted", O_RDONLY);
  check(write(log, "first", 5) == 5 && !unlink("/tmp/deleted"));
  int again = open("/tmp/deleted", O_CREAT | O_RDWR | O_TRUNC, 0600);
  check(write(again, "the other", 9) == 9);
  mkdir("/tmp/deleted-dir", 0755);
  int inside = open("/tmp/deleted-dir/file", O_CREAT | O_RDWR, 0600), dir = open("/tmp/deleted-dir", O_RDONLY | O_DIRECTORY);
  check(write(inside, "inside", 6) == 6 && !unlink("/tmp/deleted-dir/file") && !rmdir("/tmp/deleted-dir"));
  int temporary = open("/tmp", O_TMPFILE | O_RDWR, 0600);
  check(temporary >= 0 && write(temporary, "temporary", 9) == 9);
  int unfollowed = open("/tmp/deleted-too", O_CREAT | O_RDWR | O_NOFOLLOW, 0600);
  check(write(unfollowed, "unfollowed", 10) == 10 && !unlink("/tmp/deleted-too"));
  begin();
  off_t size = 5;
  for (int round = 1;; round++) {
    struct stat s, t;
    next();
    check(!fstat(log, &s) && !fstat(reader, &t) && s.st_ino == t.st_ino);
    equal(s.st_nlink, 0);
    equal(s.st_size, size);
    equal(s.st_mode & 0777, 0640);
    check(write(log, "more", 4) == 4);
    size += 4;
    check(lseek(reader, 0, SEEK_SET) == 0 && read(reader, text, 5) == 5 && !memcmp(text, "first", 5));
    check(pread(reader, text, 4, size - 4) == 4 && !memcmp(text, "more", 4));
    check(!stat("/tmp/deleted", &t) && t.st_ino != s.st_ino && t.st_size == 9);
    check(pread(again, text, 9, 0) == 9 && !memcmp(text, "the other", 9));
    check(pread(inside, text, 9, 0) == 6 && !memcmp(text, "inside", 6));
    equal(lseek(inside, 0, SEEK_CUR), 6);
    check(!fstat(dir, &t) && S_ISDIR(t.st_mode));
    check(stat("/tmp/deleted-dir", &t) && errno == ENOENT);
    check(pread(temporary, text, 9, 0) == 9 && !memcmp(text, "temporary", 9));
    check(pread(unfollowed, text, 10, 0) == 10 && !memcmp(text, "unfollowed", 10));
    DIR* d = opendir("/tmp");
    for (struct dirent* e; (e = readdir(d));) check(!strstr(e->d_name, ".~") && e->d_name[0] != '#');
    closedir(d);
    ok();
  }
}
