// inotify: directories and files under the same watch numbers, also behind a gap; a file of the base system; flags.
#include "program.h"
#include <sys/inotify.h>

static char bytes[4096];

static void expect(int fd, int watch, unsigned mask, const char* name) {
  ssize_t n = read(fd, bytes, sizeof bytes);
  if (n <= 0) fail("no event");
  struct inotify_event* e = (void*)bytes;
  equal(e->wd, watch);
  equal(e->mask, mask);
  check(name ? e->len && !strcmp(e->name, name) : e->len == 0);
  equal(n, sizeof *e + e->len);
}

int main(void) {
  mkdir("/tmp/watched", 0755);
  int file = open("/tmp/watched/file", O_CREAT | O_RDWR, 0600);
  int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  int dir = inotify_add_watch(fd, "/tmp/watched", IN_CREATE | IN_DELETE);
  for (int i = 0; i < 10; i++) inotify_rm_watch(fd, inotify_add_watch(fd, "/tmp", IN_OPEN));
  int base = inotify_add_watch(fd, "/etc/passwd", IN_OPEN), inner = inotify_add_watch(fd, "/tmp/watched/file", IN_MODIFY);
  check(dir == 1 && base == 12 && inner == 13);
  while (read(fd, bytes, sizeof bytes) > 0);
  begin();
  for (;;) {
    next();
    equal(read(fd, bytes, sizeof bytes), -1);
    equal(errno, EAGAIN);
    close(open("/tmp/watched/new", O_CREAT | O_RDWR, 0600));
    expect(fd, dir, IN_CREATE, "new");
    check(!unlink("/tmp/watched/new"));
    expect(fd, dir, IN_DELETE, "new");
    close(open("/etc/passwd", O_RDONLY));
    expect(fd, base, IN_OPEN, NULL);
    check(write(file, "x", 1) == 1);
    expect(fd, inner, IN_MODIFY, NULL);
    check(fcntl(fd, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFL) & O_NONBLOCK));
    ok();
  }
}
